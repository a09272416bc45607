"""The judgement: what the relay took, what the topics tell and what the ledger holds, put beside what was asked."""

import asyncio
import sys
import time
from collections import Counter

import orjson
from aiokafka import AIOKafkaConsumer

from deploy.local.settings import REPOSITORY
from tests.chaos.rig import CLAIMS, Rig, message_id
from tests.chaos.verdict import Verdict
from tests.support.stack import Stack

_EVENTS_PATIENCE_S = 20.0
_RECONCILE_TRIES = 6
_RECONCILE_S = 600.0  # 100,000 mails and their events take minutes on a busy machine
_LEDGER = "SELECT id, message_id, state, unknowns, results::text AS results FROM sender.ledger"


async def judge(rig: Rig, scenario: str) -> Verdict:
    """Count. To be called when the scenario is over and nothing is on its way any more."""
    verdict = Verdict(scenario, mails=len(rig.accepted), maybe=len(rig.maybe), kills=rig.kills, exits_s=rig.exits_s)
    verdict.seconds = time.monotonic() - rig.started
    rows = {str(row["id"]): row for row in await rig.fetch(_LEDGER)}
    _count_deliveries(rig, verdict, {row["message_id"] for row in rows.values() if row["unknowns"]})
    complete = await wait_completing(rig.stack, set(rig.accepted))
    sent = {email_id for email_id, row in rows.items() if _is_sent(row["state"], row["results"])}
    verdict.sent = len(sent & complete & rig.accepted.keys())
    verdict.unknown = sum(1 for row in rows.values() if row["unknowns"])
    await asyncio.gather(*(sender.scrape() for sender in rig.senders))
    _count_claims(rig, verdict)
    (row,) = await rig.fetch("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    verdict.deadlocks = row["deadlocks"]
    verdict.require_nothing_lost()
    return verdict


def _count_deliveries(rig: Rig, verdict: Verdict, unknown: set[str]) -> None:
    taken = rig.relay.deliveries()
    due = {(message_id(each), to) for each, recipients in rig.accepted.items() for to in recipients}
    allowed = due | {(message_id(each), to) for each, recipients in rig.maybe.items() for to in recipients}
    verdict.lost = len(due - taken.keys())
    verdict.strangers = len(taken.keys() - allowed)
    doubled = {key: times - 1 for key, times in taken.items() if times > 1}
    verdict.doubles = sum(doubled.values())
    verdict.hidden_doubles = sum(times for (known_as, _), times in doubled.items() if known_as not in unknown)


def _is_sent(state: str, results: str) -> bool:
    return state == "settled" and all(each["state"] == "sent" for each in orjson.loads(results))


def _count_claims(rig: Rig, verdict: Verdict) -> None:
    """By what claiming found: `take_over` a lapsed claim; `park`, `announce` and `go_on` a mail known already."""
    found: Counter[str] = Counter()
    for sender in rig.senders:
        for labels, times in sender.count(CLAIMS).items():
            found[labels.split('"')[1]] += times
        verdict.restarts += sender.restarts
    verdict.restarts -= rig.kills
    verdict.takeovers = found["take_over"]
    verdict.redeliveries = found["park"] + found["announce"] + found["go_on"]
    verdict.notes.append("claims found: " + ", ".join(f"{name} {times}" for name, times in sorted(found.items())))


async def wait_completing(stack: Stack, wanted: set[str], patience_s: float = _EVENTS_PATIENCE_S) -> set[str]:
    """The ids with a completing event on email.sent, read until all wanted have one or patience is over."""
    consumer = AIOKafkaConsumer(
        stack.topics.sent, bootstrap_servers=stack.bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    found: set[str] = set()
    deadline = time.monotonic() + patience_s
    try:
        while wanted - found and time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                events = (orjson.loads(record.value) for record in records)
                found |= {event["id"] for event in events if event["complete"]}
    finally:
        await consumer.stop()
    return found


async def reconcile(rig: Rig, verdict: Verdict) -> None:
    """`python -m services.gateway reconcile`, with the read model's worker running: it must exit 0 (P15).

    The worker may still be reading, so that a first answer of 1 is asked again.
    """
    if (await _run(rig, "--help"))[0] != 0:
        verdict.reconcile = "not built"
        verdict.notes.append("reconcile does not exist yet: skipped")
        return
    await rig.start_other("services.gateway", "worker")
    code, output = 1, ""
    for _ in range(_RECONCILE_TRIES):
        await asyncio.sleep(5)
        code, output = await _run(rig, "--since", "24h")
        if code == 0:
            break
    verdict.reconcile = "adds up" if code == 0 else f"exit {code}"
    verdict.require(code == 0, f"reconcile exits {code}: {output[-1500:]}")


async def _run(rig: Rig, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "services.gateway", "reconcile", *arguments),
        env=rig.services.environment(),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), _RECONCILE_S)
    return process.returncode or 0, output.decode(errors="replace")
