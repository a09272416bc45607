"""A relay that mostly works, on real sockets: what it does now and then costs the mails it is about, and no others."""

import asyncio
import random
import time

from structlog.testing import capture_logs

from services.sender.parcel import Ending, Parcel
from tests.integration.test_sender_routing import make_relay, send_over
from tests.support.smtp import Answer, Script, run_smtp


async def test_connections_cut_at_random_are_no_outage() -> None:
    luck = random.Random(11)

    def answer(step: str, argument: str) -> Answer:
        lost = {"mail": 0.03, "data": 0.03, "dot": 0.03}.get(step, 0.0)
        return "LOSE" if luck.random() < lost else None

    async with run_smtp(Script(answer)) as server, send_over(make_relay(server.port, connections=8)) as fleet:
        with capture_logs() as logs:
            for turn in range(1, 11):
                fleet.submit(100)
                await fleet.wait_done(100 * turn - len(fleet.returned))
        assert fleet.returned == [], "what was cut off before its content goes on"
        assert server.connections > 30
    levels = [each["log_level"] for each in logs]
    assert "error" not in levels
    assert levels.count("info") == 1, "told once a minute"


async def test_a_few_stray_refusals_among_many_answers_do_not_slow_it_down() -> None:
    luck = random.Random(12)

    def answer(step: str, argument: str) -> Answer:
        return "451 4.3.0 later" if step == "dot" and luck.random() < 0.04 else None

    async with run_smtp(Script(answer)) as server, send_over(make_relay(server.port)) as fleet:
        (relay,) = fleet.relays.relays
        began, sent = time.monotonic(), 0
        while time.monotonic() - began < 2.5:
            fleet.submit(20)
            sent += 20
            await asyncio.sleep(0.02)
            assert relay.rate is None
        await fleet.wait_done(sent)
        assert len(server.taken) < sent


async def test_recipients_beyond_what_a_relay_takes_at_a_time_get_theirs_at_once() -> None:
    room = 5
    asked = 0

    def answer(step: str, argument: str) -> Answer:
        nonlocal asked
        asked = 0 if step == "mail" else asked + (step == "rcpt")
        return "452 4.5.3 Error: too many recipients" if step == "rcpt" and asked > room else None

    async with run_smtp(Script(answer)) as server, send_over(make_relay(server.port, connections=1)) as fleet:
        recipients = [b"r%d@x.org" % number for number in range(12)]
        content = b"Message-ID: <many@x>\r\n\r\nx\r\n"
        fleet.relays.submit([Parcel(b"a@x.org", recipients, content, lambda: True, fleet.done.append)])
        fleet.submit(3)
        await fleet.wait_done(4)
        (many,) = [each for each in fleet.done if len(each.recipients) > 1]
        assert (many.ending, many.content_answered) == (Ending.ANSWERED, True)
        assert [reply and reply.code for reply in many.replies] == [250] * 12
        assert [len(taken.recipients) for taken in server.taken if "many" in taken.message_id] == [5, 5, 2]
        assert sorted(server.deliveries().values())[:12] == [1] * 12
        assert server.connections == 1


async def test_what_expires_while_it_waits_costs_no_connection() -> None:
    welcome = True
    async with run_smtp(Script(dot_delay_s=1.5)) as server:
        async with send_over(make_relay(server.port, connections=1)) as fleet:
            fleet.submit(1)
            await asyncio.sleep(0.2)
            fleet.relays.submit([Parcel(b"a@x.org", [b"late@x.org"], b"x\r\n", lambda: welcome, fleet.done.append)])
            welcome = False
            await fleet.wait_done(2)
            assert [each.ending for each in fleet.done] == [Ending.FORBIDDEN, Ending.ANSWERED]
            fleet.submit(1)
            await fleet.wait_done(3)
        assert server.connections == 1
        assert not any("late" in command for command in server.commands)


async def test_a_connection_that_breaks_counts_once_whatever_lay_on_it() -> None:
    broken = 0

    def answer(step: str, argument: str) -> Answer:
        nonlocal broken
        broken += step == "dot"
        return "LOSE" if step == "dot" and broken <= 4 else None

    async with run_smtp(Script(answer)) as server, send_over(make_relay(server.port, connections=1)) as fleet:
        fleet.submit(12)  # behind each that is lost at its dot, the next one's envelope
        await fleet.wait_done(12)
        assert fleet.relays.available
        assert (fleet.returned, server.connections) == ([], 5)
        assert [each.ending for each in fleet.done].count(Ending.UNANSWERED) == 4
