"""Bulk mail handed out by two schedulers, one of which is killed every few seconds."""

import asyncio
from typing import Any
from uuid import uuid4

from tests.chaos.judging import judge, reconcile
from tests.chaos.rig import SENDER_ADDRESS, Rig
from tests.chaos.verdict import Verdict
from tests.support.records import publish

_MAILS_PER_EVENT = 100
_LANES = "SELECT sum(sent) AS sent, sum(pending + queued + deferred + unknown) AS open FROM scheduler.bulk_lane"
_ROWS = "SELECT count(*) FILTER (WHERE state = 'sent') AS sent, count(*) AS mails FROM scheduler.bulk_mail"


async def kill_schedulers(rig: Rig, *, mails: int = 20_000, kills: int = 10, every_s: float = 2.0) -> Verdict:
    """Every mail is sent once, the counters add up, and the window is empty at the end."""
    lease = {"MILENA_RELEASE_LEASE_S": "3"}
    await rig.start_sender(0)
    schedulers = [
        await rig.start_other("services.scheduler", "worker", MILENA_SLOT=str(slot), **lease) for slot in (0, 1)
    ]
    await _publish(rig, mails)
    for number in range(kills):
        await asyncio.sleep(every_s)
        victim = schedulers[number % 2]
        await victim.wait_ready()
        victim.kill()
        rig.kills += 1
    everybody = await rig.wait_everybody(300)
    settled = await rig.wait_finished(60) and await _wait_counted(rig, mails)
    verdict = await judge(rig, f"one of two schedulers gets SIGKILL {kills} times while {mails:,} bulk mails leave")
    verdict.restarts = sum(each.restarts for each in (*rig.senders, *schedulers)) - rig.kills
    verdict.require(verdict.restarts == 0, f"{verdict.restarts} processes ended by themselves")
    verdict.require(everybody, "not everybody has his mail after 300 s")
    verdict.require(settled, f"the counters do not add up: {await rig.fetch(_LANES)}, {await rig.fetch(_ROWS)}")
    verdict.require_no_double()
    [window] = await rig.fetch("SELECT in_flight FROM scheduler.bulk_window")
    verdict.require(window["in_flight"] == 0, f"{window['in_flight']} mails are in the window, and none on its way")
    verdict.require(not await rig.fetch("SELECT FROM scheduler.bulk_group"), "groups wait to be published")
    await reconcile(rig, verdict)
    return verdict


async def _publish(rig: Rig, mails: int) -> None:
    events = [_make_bulk(number) for number in range(mails // _MAILS_PER_EVENT)]
    await publish(rig.stack.bootstrap_servers, rig.stack.topics.requested, *events)
    rig.accepted |= {mail["id"]: (mail["to"],) for event in events for mail in event["mails"]}


def _make_bulk(number: int) -> dict[str, Any]:
    """Ten batches of two accounts in turn."""
    return {
        "bulk_id": str(uuid4()),
        "from": SENDER_ADDRESS,
        "subject": "Hello {{ n }}",
        "text": "Dear {{ n }}",
        "priority": "bulk",
        "account": f"account{number % 2}",
        "batch_id": f"batch{number % 10}",
        "mails": [
            {"id": str(uuid4()), "to": f"u{number}-{each}@example.org", "variables": {"n": each}}
            for each in range(_MAILS_PER_EVENT)
        ],
    }


async def _wait_counted(rig: Rig, mails: int, patience_s: float = 60.0) -> bool:
    for _ in range(int(patience_s / 0.5)):
        [lanes], [rows] = await rig.fetch(_LANES), await rig.fetch(_ROWS)
        if lanes["sent"] == rows["sent"] == rows["mails"] == mails and lanes["open"] == 0:
            return True
        await asyncio.sleep(0.5)
    return False
