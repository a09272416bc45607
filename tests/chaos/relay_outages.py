"""A relay is off for long, or limited: with nobody else to send through, and with a second relay behind it."""

import asyncio
import json
import time
from collections.abc import Callable

from tests.chaos.judging import judge
from tests.chaos.rig import Rig, wait_until
from tests.chaos.verdict import Verdict
from tests.support.smtp import Script, SmtpServer, run_smtp

_BACK_WITHIN_S = 10.0
_ON_WITHIN_S = 5.0
_TRIED_IN_VAIN = "SELECT count(*) AS n FROM sender.ledger WHERE attempt > 1 AND unknowns = 0"


async def lose_the_only_relay(rig: Rig, *, away_s: float = 120.0, rate: int = 40, patience_s: float = 90.0) -> Verdict:
    """Off for `away_s` in the middle of a steady load: no attempt is counted, and mail flows soon after its return."""
    sender = await rig.start_sender(0)
    load = asyncio.create_task(rig.publish(int(rate * (away_s + 15)), over_s=away_s + 15))
    await rig.wait_taken(rate * 5)
    await rig.relay.stop()
    await asyncio.sleep(away_s)
    before, waiting = len(rig.relay.taken), rate * away_s
    await rig.relay.start()
    flows_s = await _time_until(lambda: len(rig.relay.taken) > before)
    everybody_s = await _time_until(lambda: len(rig.relay.taken) > before + waiting * 0.95)
    await load
    finished = await rig.wait_everybody(patience_s) and await rig.wait_finished(patience_s)
    verdict = await judge(rig, f"the only relay is off for {away_s:.0f} s under load")
    verdict.require(finished, "not everything was sent")
    verdict.require(sender.restarts == 0, f"the process was restarted, exit codes {sender.exits}")
    verdict.require(flows_s < _BACK_WITHIN_S, f"mail flowed {flows_s:.1f} s after the relay's return")
    verdict.notes.append(
        f"mail flowed {flows_s:.1f} s after the return, what had waited was sent after {everybody_s:.1f} s"
    )
    await _require_no_attempt(rig, verdict)
    return verdict


async def lose_the_first_of_two(rig: Rig, *, away_s: float = 20.0, rate: int = 100) -> Verdict:
    """The preferred relay goes away and comes back; meanwhile mail goes on over the second."""
    async with run_smtp() as second:
        second.counts = rig.relay.counts  # judged together
        relays = _describe({"first": rig.relay, "second": second})
        await rig.start_sender(0, MILENA_RELAYS=relays, MILENA_SMTP_PORT="")
        load = asyncio.create_task(rig.publish(int(rate * (away_s + 20)), over_s=away_s + 20))
        await rig.wait_taken(rate * 5)
        await rig.relay.stop()
        before = len(second.taken)
        goes_on_s = await _time_until(lambda: len(second.taken) > before + rate // 2)
        await asyncio.sleep(away_s - goes_on_s)
        returned_at = len(rig.relay.taken)
        await rig.relay.start()
        back_s = await _time_until(lambda: len(rig.relay.taken) > returned_at + rate // 2)
        await load
        finished = await rig.wait_everybody(60) and await rig.wait_finished(60)
        verdict = await judge(rig, f"the first of two relays is off for {away_s:.0f} s under load")
        verdict.require(finished, "not everything was sent")
        verdict.require(goes_on_s < _ON_WITHIN_S, f"mail went on after {goes_on_s:.1f} s")
        verdict.require(back_s < _BACK_WITHIN_S, f"the first was used {back_s:.1f} s after its return")
        verdict.notes.append(
            f"mail went on over the second after {goes_on_s:.1f} s ({len(second.taken)} mails), "
            f"and over the first {back_s:.1f} s after its return"
        )
        await _require_no_attempt(rig, verdict)
    return verdict


async def limit_one_of_two(rig: Rig, *, limit: int = 50, window_s: float = 20.0, mails: int = 20_000) -> Verdict:
    """Two processes share one relay's limit over any `window_s`, while the other relay runs at its full speed.

    That is 20 connections with 30 ms for each answer after the dot: 667 mails/s at best.
    """
    async with run_smtp(Script(dot_delay_s=0.03)) as free:
        free.counts = rig.relay.counts
        relays = _describe({"limited": rig.relay, "free": free}, limited={"mails_per_second": limit})
        settings = {"MILENA_RELAYS": relays, "MILENA_SMTP_PORT": ""}
        await rig.publish(mails)
        await asyncio.gather(*(rig.start_sender(slot, **settings) for slot in range(2)))
        await rig.wait_taken(limit * 5)
        samples = [(time.monotonic(), len(rig.relay.taken), len(free.taken))]
        while samples[-1][0] - samples[0][0] < window_s + 2:
            await asyncio.sleep(0.5)
            samples.append((time.monotonic(), len(rig.relay.taken), len(free.taken)))
        rates = [
            (taken - began_taken) / (now - began)
            for now, taken, _ in samples
            for began, began_taken, _ in samples
            if window_s - 0.6 <= now - began <= window_s + 0.6
        ]
        full_speed = (samples[-1][2] - samples[0][2]) / (samples[-1][0] - samples[0][0])
        await rig.wait_everybody(120)
        await rig.wait_finished(60)
        verdict = await judge(rig, f"one relay of two is limited to {limit} mails/s, two senders")
    lowest, highest = min(rates, default=0.0), max(rates, default=0.0)
    verdict.require(0.9 * limit <= lowest, f"only {lowest:.1f} mails/s over {window_s:.0f} s")
    verdict.require(full_speed > 5 * limit, f"the other relay got only {full_speed:.0f} mails/s")
    verdict.require(highest <= limit, f"{highest:.1f} mails/s over {window_s:.0f} s")
    verdict.notes.append(
        f"over every {window_s:.0f} s the limited relay got {lowest:.1f} to {highest:.1f} mails/s, "
        f"the other {full_speed:.0f} mails/s meanwhile"
    )
    return verdict


def _describe(relays: dict[str, SmtpServer], **options: dict[str, float]) -> str:
    return json.dumps(
        [
            {"name": name, "host": "127.0.0.1", "port": server.port, **options.get(name, {})}
            for name, server in relays.items()
        ]
    )


async def _time_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> float:
    """Seconds until it holds."""

    async def holds() -> bool:
        return condition()

    began = time.monotonic()
    await wait_until(holds, timeout_s, "mail to flow")
    return time.monotonic() - began


async def _require_no_attempt(rig: Rig, verdict: Verdict) -> None:
    """An attempt counts where an answer, or its lack after the content, was about the mail."""
    (row,) = await rig.fetch(_TRIED_IN_VAIN)
    verdict.require(row["n"] == 0, f"{row['n']} mails were tried again although nobody had answered for them")
    verdict.notes.append(f"{verdict.unknown} mails lay at the final dot, no other was tried in vain")
