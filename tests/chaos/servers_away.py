"""PostgreSQL or Kafka goes away in the middle of the load, while callers keep posting."""

import asyncio
import time
from collections import Counter

from tests.chaos.judging import judge, reconcile
from tests.chaos.outages import Outage
from tests.chaos.posting import Posting
from tests.chaos.rig import Rig
from tests.chaos.verdict import Verdict
from tests.support.gateway import mint

REFUSAL_LIMIT_S = 6.0


async def take_a_server_away(
    rig: Rig,
    outage: Outage,
    *,
    what: str,
    away_s: float,
    refuses: bool,
    times: int = 1,
    mails: int = 2000,
    posts_per_s: float = 10.0,
    margin_s: float = 8.0,
    patience_s: float = 180.0,
    senders: int = 2,
    reconciled: bool = True,
) -> Verdict:
    """Load for `margin_s` before and after the outages, on the topic and over HTTP.

    `refuses`: whether a POST in the meantime must get 503 (Kafka) or may be accepted (PostgreSQL, known keys).
    """
    rig.relay.script.dot_delay_s = 0.05
    api = await rig.start_other("services.gateway", "api")
    for slot in range(senders):
        await rig.start_sender(slot)
    posting = Posting(rig, api.process.url, await mint(rig.stack.database_url, "*@example.com"), posts_per_s)
    stop = asyncio.Event()
    callers = asyncio.create_task(posting.run(stop))
    load = asyncio.create_task(rig.publish(mails, over_s=margin_s * (times + 2) / 2))
    await asyncio.sleep(margin_s)
    await rig.wait_claims_open()
    began = time.monotonic()
    await outage(away_s)
    ended = time.monotonic()
    for _ in range(times - 1):
        await asyncio.sleep(margin_s / 4)
        await outage(away_s)
    await asyncio.sleep(margin_s)
    stop.set()
    await callers
    await load
    finished = await rig.wait_finished(patience_s)
    verdict = await judge(rig, what)
    verdict.require(finished, f"not finished {patience_s:.0f} s after the load")
    verdict.require_no_double()
    _judge_answers(verdict, posting, began, ended, refuses=refuses)
    if reconciled:
        await reconcile(rig, verdict)
    return verdict


def _judge_answers(verdict: Verdict, posting: Posting, began: float, ended: float, *, refuses: bool) -> None:
    # At either end the server may answer still, or already.
    edge = min(1.0, (ended - began) / 4)
    meanwhile = posting.between(began + edge, ended - edge)
    slowest = max((each.seconds for each in posting.answers), default=0.0)
    statuses = Counter(each.status for each in meanwhile)
    told = ", ".join(f"{status}: {times}" for status, times in sorted(statuses.items()))
    verdict.notes.append(
        f"POSTs meanwhile: {told}; slowest {slowest:.1f} s; away for {ended - began:.0f} s;"
        f" back after {_first_accepted(posting, ended):.1f} s"
    )
    verdict.require(slowest <= REFUSAL_LIMIT_S, f"an answer took {slowest:.1f} s")
    verdict.require(set(statuses) <= {202, 503}, f"POSTs meanwhile got {told}")
    if refuses:
        verdict.require(statuses[503] > 0, "no POST got 503 meanwhile")
    late = posting.answers[-5:]
    verdict.require(all(each.status == 202 for each in late), f"the last POSTs got {[each.status for each in late]}")


def _first_accepted(posting: Posting, ended: float) -> float:
    times = [each.asked + each.seconds - ended for each in posting.answers if each.status == 202 and each.asked > ended]
    return min(times, default=float("inf"))
