"""A thousand mails cancelled at the moment they are due, by three schedulers, one of which is killed every so often."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.chaos.judging import reconcile
from tests.chaos.rig import SENDER_ADDRESS, Rig, message_id, wait_until
from tests.chaos.verdict import Verdict
from tests.support.gateway import mint
from tests.support.races import Races, count_cancelled, race
from tests.support.records import TopicReader
from tests.support.supervised import Supervised

_MAIL = {"from": SENDER_ADDRESS, "to": ["ann@example.org"], "subject": "s", "text": "t"}
_LEASE_S = 2
_QUIET_S = 5.0  # after the last end: time for a second one, which must not come


async def cancel_when_due(
    rig: Rig, *, mails: int = 1000, over_s: float = 30.0, schedulers: int = 3, kill_every_s: float = 4.0
) -> Verdict:
    """Each mail is at the relay once or has one `cancelled`, never both, never neither; who is told 200 is not sent."""
    await rig.start_sender(0)
    env = {"MILENA_RELEASE_LEASE_S": str(_LEASE_S)}
    workers = [
        await rig.start_other("services.scheduler", "worker", MILENA_SLOT=str(slot), **env)
        for slot in range(schedulers)
    ]
    api = await rig.start_other("services.scheduler", "api")
    caller = await mint(rig.stack.database_url)
    topics = rig.stack.topics
    async with TopicReader(rig.stack.bootstrap_servers, topics.failed) as reader:
        async with (
            httpx.AsyncClient(base_url=api.process.url, headers=caller.headers, timeout=30, trust_env=False) as client,
            _killing(rig, workers, kill_every_s),
        ):
            races = await race(rig.stack, client, _MAIL, mails, lead_s=10, over_s=over_s, seed=7)
        everybody = await _wait_ends(rig, races, reader)
        verdict = _judge(rig, races, reader, schedulers, everybody=everybody)
    await reconcile(rig, verdict)
    return verdict


@asynccontextmanager
async def _killing(rig: Rig, workers: list[Supervised], every_s: float) -> AsyncIterator[None]:
    """SIGKILL to one of them every so often, while this lasts."""
    dice = random.Random(7)

    async def kill() -> None:
        while True:
            await asyncio.sleep(every_s)
            worker = dice.choice(workers)
            if worker.process.returncode is None:
                worker.kill()
                rig.kills += 1

    killing = asyncio.create_task(kill())
    try:
        yield
    finally:
        killing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await killing


async def _wait_ends(rig: Rig, races: Races, reader: TopicReader) -> bool:
    async def ended() -> bool:
        cancelled, left = count_cancelled(reader.seen), _count_taken(rig, races)
        return all(cancelled[each] or left[each] for each in races.ids)

    try:
        await wait_until(ended, 90, "an end of every mail", every_s=0.5)
    except AssertionError:
        return False
    await asyncio.sleep(_QUIET_S)
    return True


def _count_taken(rig: Rig, races: Races) -> Counter[str]:
    """By mail, how often the relay took it."""
    return Counter({each: rig.relay.counts[message_id(each), _MAIL["to"][0]] for each in races.ids})


def _judge(rig: Rig, races: Races, reader: TopicReader, schedulers: int, *, everybody: bool) -> Verdict:
    left, cancelled = _count_taken(rig, races), count_cancelled(reader.seen)
    name = f"{len(races.ids)} mails cancelled when they are due, {schedulers} schedulers, one killed at times"
    verdict = Verdict(name, mails=len(races.ids), seconds=time.monotonic() - rig.started, kills=rig.kills)
    verdict.sent = sum(1 for times in left.values() if times)
    verdict.lost = sum(1 for each in races.ids if not left[each] and not cancelled[each])
    verdict.doubles = sum(max(0, times - 1) for times in left.values())
    verdict.require(everybody, "a mail had no end 90 s after the last was due")
    for fault in races.find_faults(left, cancelled):
        verdict.require(False, fault)
    verdict.require(0 < verdict.sent < len(races.ids) - len(races.early), "the race was none")
    verdict.require_no_double()
    verdict.notes.append(
        f"{len(races.ids) - verdict.sent} cancelled: {len(races.early)} before anybody had seen them, "
        f"{len(races.confirmed)} confirmed at once over HTTP; {verdict.sent} sent"
    )
    return verdict
