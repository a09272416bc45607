"""Many mails through a relay in a bad mood: in the end every one of them is accounted for, by everybody alike."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer
from pydantic import Field

from shared.settings import EnvironmentSettings
from tests.chaos.judging import reconcile
from tests.chaos.rig import Rig
from tests.chaos.sinks import run_sinks
from tests.chaos.verdict import Verdict
from tests.support.stack import Stack

Account = dict[str, str]
"""By email id: sent, partially_sent, failed, unknown or pending."""

_LEDGER = "SELECT id, state, unknowns, attempt, results::text AS results FROM sender.ledger"
_STANDING = """
    SELECT count(*) FILTER (WHERE state IN ('settled', 'held')) AS over, count(*) AS known FROM sender.ledger
"""
_SEED = 5321


class SumsSettings(EnvironmentSettings):
    """How large the run is."""

    chaos_sink_mails: int = Field(default=100_000, ge=1)


async def add_up(rig: Rig, *, mails: int | None = None, patience_s: float = 900.0, reconciled: bool = True) -> Verdict:
    """Two senders, some connections refused or cut off at random, and short pauses between the attempts."""
    count = mails or SumsSettings().chaos_sink_mails
    async with run_sinks(_SEED) as sinks:
        env = {"MILENA_SMTP_PORT": str(sinks.door.port), "MILENA_RETRY_DELAYS": "0.5,1,2,4"}
        for slot in range(2):
            await rig.start_sender(slot, **env)
        await rig.publish(count)
        finished = await _wait_over(rig, patience_s)
        rows = await rig.fetch(_LEDGER)
        taken, met = sinks.count(), sinks.describe()
    verdict = Verdict(f"{count:,} mails, a relay that refuses and hangs up at random", mails=len(rig.accepted))
    verdict.seconds = time.monotonic() - rig.started
    verdict.require(finished, f"not finished within {patience_s:.0f} s")
    ledger = {str(row["id"]): _account_for(row) for row in rows}
    _compare(verdict, rig, ledger, await _read_told(rig.stack))
    _hold_against_sinks(verdict, rows, ledger, taken)
    verdict.notes.append(met)
    if reconciled:
        await reconcile(rig, verdict)
    return verdict


async def _wait_over(rig: Rig, patience_s: float) -> bool:
    """Until nothing happens by itself any more: all is settled, or waits for an operator."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        (row,) = await rig.fetch(_STANDING)
        if row["over"] == row["known"] == len(rig.accepted):
            return True
        await asyncio.sleep(1)
    return False


def _account_for(row: asyncpg.Record) -> str:
    if row["state"] == "held":
        return "unknown"
    return (
        _add_states(each["state"] for each in orjson.loads(row["results"])) if row["state"] == "settled" else "pending"
    )


def _add_states(states: Iterable[str]) -> str:
    found = set(states)
    if "unknown" in found:
        return "unknown"
    return "sent" if found == {"sent"} else "partially_sent" if "sent" in found else "failed"


async def _read_told(stack: Stack) -> dict[str, set[tuple[str, str]]]:
    """By email id the completing events that the topics hold: each one's `ce_id`, and what it adds up to."""
    topics = (stack.topics.sent, stack.topics.failed)
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=stack.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    told: dict[str, set[tuple[str, str]]] = {}
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    event = orjson.loads(record.value)
                    if event["complete"]:
                        end = _add_states(each["state"] for each in event["outcomes"])
                        told.setdefault(event["id"], set()).add((dict(record.headers)["ce_id"].decode(), end))
    finally:
        await consumer.stop()
    return told


def _compare(verdict: Verdict, rig: Rig, ledger: Account, told: dict[str, set[tuple[str, str]]]) -> None:
    """Ledger and topics say of every accepted mail the same one end."""
    sums = Counter(ledger[email_id] for email_id in rig.accepted if email_id in ledger)
    verdict.sent, verdict.lost = sums["sent"], len(rig.accepted.keys() - ledger.keys())
    verdict.strangers = len(ledger.keys() - rig.accepted.keys())
    verdict.notes.append(f"{len(rig.accepted)} accepted = " + " + ".join(f"{n} {what}" for what, n in sums.items()))
    verdict.require(sum(sums.values()) == len(rig.accepted), "the sums do not add up to what was accepted")
    verdict.require(verdict.lost == verdict.strangers == 0, f"{verdict.lost} lost, {verdict.strangers} strangers")
    verdict.require(sums["pending"] == 0, f"{sums['pending']} mails still pending")
    differing = [
        email_id
        for email_id, state in ledger.items()
        if {end for _, end in told.get(email_id, ())} != ({state} if state not in ("unknown", "pending") else set())
    ]
    verdict.require(not differing, f"{len(differing)} mails whose events say something else: {differing[:3]}")
    several = [email_id for email_id, events in told.items() if len(events) > 1]
    verdict.require(not several, f"{len(several)} mails with more than one completing event: {several[:3]}")


def _hold_against_sinks(verdict: Verdict, rows: list[asyncpg.Record], ledger: Account, taken: int) -> None:
    """What the sinks took is what was sent, and beyond that only mails that the ledger shows as once unknown."""
    sent = sum(1 for state in ledger.values() if state in ("sent", "partially_sent"))
    unknowns = sum(row["unknowns"] for row in rows)
    verdict.unknown = sum(1 for row in rows if row["unknowns"])
    verdict.doubles = taken - sent
    verdict.hidden_doubles = max(0, verdict.doubles - unknowns)
    attempts = Counter(row["attempt"] for row in rows)
    verdict.notes.append(f"the sinks took {taken} mails; {unknowns} transmissions had no answer")
    verdict.notes.append("mails by attempts: " + ", ".join(f"{n}: {times}" for n, times in sorted(attempts.items())))
    verdict.require(taken >= sent, f"{sent} mails are called sent, the sinks took only {taken}")
    verdict.require(
        verdict.hidden_doubles == 0, f"{verdict.hidden_doubles} doubles the ledger does not show as unknown"
    )
