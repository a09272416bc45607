"""Several relays on real sockets: which one gets a mail, and what becomes of it when one is away, hangs or is full."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.sender.breaker import BreakerPolicy, Gate
from services.sender.connecting import RelayAddress, open_connection
from services.sender.conversation import Timeouts
from services.sender.parcel import Ending, Parcel
from services.sender.relay import Relay
from services.sender.routing import Relays
from services.sender.shares import Share
from tests.support.smtp import Answer, Script, SmtpServer, run_smtp

QUICK = BreakerPolicy(retry_s=0.05, first_probe_s=0.1, last_probe_s=0.2, operators_probe_s=0.2)


class Fleet:
    """Relays, and what came of the parcels given to them."""

    def __init__(self, *relays: Relay) -> None:
        self.done: list[Parcel] = []
        self.returned: list[Parcel] = []
        self.late: list[Parcel] = []
        self.relays = Relays(relays, on_returned=self.returned.extend, on_late=self.late.extend, on_ready=lambda: None)

    def submit(self, count: int, *, utf8: bool = False) -> None:
        sender = "ä@x.org" if utf8 else "a@x.org"
        content = b"Message-ID: <1@x>\r\n\r\nx\r\n"
        self.relays.submit(
            [
                Parcel(sender.encode(), [b"b@x.org"], content, lambda: True, self.done.append, needs_utf8=utf8)
                for _ in range(count)
            ]
        )

    async def wait_done(self, count: int, timeout_s: float = 10) -> None:
        async with asyncio.timeout(timeout_s):
            while len(self.done) < count:
                await asyncio.sleep(0.01)

    def went_to(self, relay: Relay) -> int:
        return sum(1 for each in self.done if each.relay == relay.name and each.content_answered)


def make_relay(port: int, *, connections: int = 4, command_s: float = 2.0, mails: int | None = None) -> Relay:
    address = RelayAddress("127.0.0.1", port, timeout_s=command_s)
    timeouts = Timeouts(command_s=command_s)
    return Relay(
        address, open_connection, connections=connections, timeouts=timeouts, breaker=QUICK, mails_per_connection=mails
    )


@asynccontextmanager
async def send_over(*relays: Relay) -> AsyncIterator[Fleet]:
    fleet = Fleet(*relays)
    await fleet.relays.start()
    try:
        yield fleet
    finally:
        await fleet.relays.stop()
        await asyncio.sleep(0.05)


@asynccontextmanager
async def two_servers(first: Script | None = None) -> AsyncIterator[tuple[SmtpServer, SmtpServer]]:
    async with run_smtp(first) as one, run_smtp() as other:
        yield one, other


async def test_mail_goes_to_the_first_relay_and_the_second_is_left_alone() -> None:
    async with two_servers() as (first, second):
        async with send_over(make_relay(first.port), make_relay(second.port)) as fleet:
            for turn in range(1, 6):
                fleet.submit(60)
                await fleet.wait_done(60 * turn)
        assert (len(first.taken), len(second.taken)) == (300, 0)


async def test_what_a_slow_relay_cannot_begin_goes_to_the_next() -> None:
    async with two_servers(Script(dot_delay_s=0.3)) as (first, second):
        async with send_over(make_relay(first.port, connections=2), make_relay(second.port)) as fleet:
            for _ in range(20):
                fleet.submit(5)
                await asyncio.sleep(0.1)
            await fleet.wait_done(100, 4)
        assert len(first.taken) > 5
        assert len(second.taken) > 40


async def test_mail_goes_on_over_the_second_when_the_first_breaks_and_none_of_it_is_tried_in_vain() -> None:
    async with two_servers(Script(dot_delay_s=0.02)) as (first, second):  # noqa: SIM117 - the fleet must end first
        async with send_over(make_relay(first.port), make_relay(second.port)) as fleet:
            fleet.submit(100)
            await first.wait_taken(8)
            await first.stop()
            broke = time.monotonic()
            fleet.submit(50)
            await fleet.wait_done(150)
            assert time.monotonic() - broke < 3
            unknown = [each for each in fleet.done if each.ending is Ending.UNANSWERED]
            assert len(unknown) <= 4, "only what lay at the dot of a connection"
            assert all(each.content_answered for each in fleet.done if each not in unknown)
            assert await fleet.relays.check() is None
            assert fleet.relays.relays[0].name in (await fleet.relays.warn() or "")
            await first.start()
            while not fleet.relays.relays[0].available:
                await asyncio.sleep(0.02)
            fleet.submit(1)
            await fleet.wait_done(151)
            await asyncio.sleep(1.5)  # it begins with a few at once, twice as many every look
            before = len(second.taken)
            fleet.submit(30)
            await fleet.wait_done(181)
            assert await fleet.relays.warn() is None
            assert len(second.taken) == before, "the first has passed its trial, and is preferred again"


async def test_a_connect_that_hangs_does_not_hold_mail_back() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:  # nobody accepts, and nobody greets
        async with run_smtp() as second:
            first = make_relay(deaf.getsockname()[1], command_s=30)
            async with send_over(first, make_relay(second.port)) as fleet:
                began = time.monotonic()
                fleet.submit(40)
                await fleet.wait_done(40, 4)
                assert time.monotonic() - began < 2.5
                fleet.submit(10)
                await fleet.wait_done(50, 0.9)
            assert len(second.taken) == 50


async def test_a_relay_that_falls_silent_holds_up_only_what_lies_on_its_wire() -> None:
    silent = False

    def answer(step: str, argument: str) -> Answer:
        return "HANG" if silent and step == "mail" else None

    async with two_servers(Script(answer)) as (first, second):
        async with send_over(make_relay(first.port, command_s=2.5), make_relay(second.port)) as fleet:
            fleet.submit(4)
            await fleet.wait_done(4)
            silent = True
            for _ in range(30):
                fleet.submit(1)
                await asyncio.sleep(0.08)
            await fleet.wait_done(4 + 30 - 8, 0.5)
            await fleet.wait_done(34, 6)
        assert all(each.content_answered for each in fleet.done), "what hung was taken back, and sent by the other"
        assert len(second.taken) == 30


async def test_a_relay_that_answers_421_to_all_burns_nothing_and_is_tried_with_one_mail() -> None:
    refusing = True

    def answer(step: str, argument: str) -> Answer:
        return "421 4.3.2 shutting down" if refusing and step == "mail" else None

    async with run_smtp(Script(answer)) as server, send_over(make_relay(server.port)) as fleet:
        (relay,) = fleet.relays.relays
        fleet.submit(20)
        async with asyncio.timeout(5):
            while len(fleet.returned) < 20:
                await asyncio.sleep(0.01)
        assert fleet.done == []
        assert "421" in (await fleet.relays.check() or "")
        assert fleet.relays.capacity <= 1
        refusing = False
        async with asyncio.timeout(5):
            while relay.breaker.gate is not Gate.TRIAL:
                await asyncio.sleep(0.01)
        assert fleet.relays.capacity == 1
        fleet.submit(1)
        await fleet.wait_done(1)
        assert relay.breaker.gate.value == "closed"
        assert fleet.relays.capacity > 20


async def test_a_relay_that_wants_auth_is_the_operators_and_its_mail_goes_to_the_next() -> None:
    script = Script(lambda step, argument: "530 5.7.0 Authentication required" if step == "mail" else None)
    async with two_servers(script) as (first, second):
        async with send_over(make_relay(first.port), make_relay(second.port)) as fleet:
            fleet.submit(30)
            await fleet.wait_done(30, 5)
            assert "530" in (await fleet.relays.warn() or "")
        assert len(second.taken) == 30


async def test_a_mail_that_alone_ends_connections_is_told_of_and_the_others_go() -> None:
    def answer(step: str, argument: str) -> Answer:
        return "DROP" if step == "mail" and argument == "ä@x.org" else None

    async with run_smtp(Script(answer)) as server, send_over(make_relay(server.port)) as fleet:
        for _ in range(20):
            fleet.submit(1)
            await asyncio.sleep(0.01)
        fleet.submit(1, utf8=True)
        await fleet.wait_done(21)
        poison = [each for each in fleet.done if each.needs_utf8]
        assert [each.ending for each in poison] == [Ending.INTERRUPTED]
        assert fleet.relays.available


async def test_an_address_beyond_ascii_goes_where_it_is_understood() -> None:
    plain = Script(extensions=("PIPELINING", "8BITMIME"))
    async with two_servers(plain) as (first, second):
        async with send_over(make_relay(first.port), make_relay(second.port)) as fleet:
            fleet.submit(5, utf8=True)
            fleet.submit(5)
            await fleet.wait_done(10)
            fleet.submit(5, utf8=True)
            await fleet.wait_done(15)
        assert (len(first.taken), len(second.taken)) == (5, 10)
    async with run_smtp(plain) as only, send_over(make_relay(only.port)) as fleet:
        fleet.submit(1, utf8=True)
        await fleet.wait_done(1)
        assert str(fleet.done[0].replies[0]).startswith("553 5.6.7")


async def test_a_limited_relay_gets_its_rate_evenly_and_the_rest_goes_to_the_next_at_full_speed() -> None:
    async with two_servers() as (first, second):
        limited = make_relay(first.port)
        limited.set_share(Share(4, 50.0, 4))
        async with send_over(limited, make_relay(second.port)) as fleet:
            began = time.monotonic()
            while time.monotonic() - began < 3:
                fleet.submit(20)
                await asyncio.sleep(0.02)
            taken = len(first.taken)
            assert 120 <= taken <= 155
            await fleet.wait_done(len(fleet.done) + 1)
        assert len(second.taken) > 1000


async def test_a_relay_that_asks_for_fewer_gets_fewer_and_more_again() -> None:
    complaining = True

    def answer(step: str, argument: str) -> Answer:
        return "450 4.7.28 sending rate exceeded" if complaining and step == "dot" else None

    async with run_smtp(Script(answer)) as server, send_over(make_relay(server.port)) as fleet:
        (relay,) = fleet.relays.relays
        for _ in range(40):
            fleet.submit(10)
            await asyncio.sleep(0.02)
        assert relay.rate is not None
        slow = relay.rate
        assert slow < 500
        complaining = False
        await asyncio.sleep(2.5)
        assert relay.rate is None or relay.rate > slow
        assert await fleet.relays.check() is None


async def test_after_so_many_mails_a_connection_is_ended_politely() -> None:
    async with run_smtp() as server:
        async with send_over(make_relay(server.port, connections=2, mails=10)) as fleet:
            fleet.submit(100)
            await fleet.wait_done(100)
            await asyncio.sleep(0.1)
        assert len(server.taken) == 100
        assert 10 <= server.connections <= 12
        assert server.commands.count("QUIT") >= 9


async def test_a_smaller_share_closes_connections_under_load_and_none_lapsed_begins_mail() -> None:
    async with run_smtp(Script(dot_delay_s=0.01)) as server, send_over(make_relay(server.port)) as fleet:
        (relay,) = fleet.relays.relays
        fleet.submit(400)
        await server.wait_taken(50)
        assert server.open == 4
        relay.set_share(Share(1, None, 4))
        await asyncio.sleep(0.2)
        assert relay.open_connections == server.open == 1
        assert len(server.taken) < 300
        relay.set_share(Share(1, None, 1), time.monotonic() + 0.1)
        await asyncio.sleep(0.5)
        before = len(server.taken)
        assert fleet.relays.capacity == 0
        await asyncio.sleep(0.3)
        assert len(server.taken) == before
        relay.set_share(Share(4, None, 4))
        await fleet.wait_done(400)


async def test_what_nobody_can_begin_in_time_is_parked_while_mail_flows() -> None:
    async with two_servers(Script(dot_delay_s=1.0)) as (first, second):
        limited = make_relay(second.port, connections=1)
        limited.set_share(Share(1, 2.0, 1))
        async with send_over(make_relay(first.port, connections=1), limited) as fleet:
            fleet.submit(40)
            async with asyncio.timeout(8):
                while not fleet.late:
                    await asyncio.sleep(0.05)
            assert len(fleet.done) >= 10
            assert len(fleet.late) + len(fleet.done) >= 36
            assert all(each.ending is None for each in fleet.late)
