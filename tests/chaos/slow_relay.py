"""A relay that takes very long to answer after the final dot, with a rebalance and SIGTERMs in the meantime."""

import asyncio

from tests.chaos.judging import judge, reconcile
from tests.chaos.rig import Rig
from tests.chaos.verdict import Verdict

_EXIT_MARGIN_S = 10.0


async def wait_out_a_slow_relay(
    rig: Rig, *, delay_s: float = 45.0, mails: int = 16, patience_s: float = 300.0, reconciled: bool = True
) -> Verdict:
    """Each mail once, although its answer comes after parking and lease.

    A second sender joins (a rebalance) early in the first wait; the first gets SIGTERM soon after, the second in the
    middle of its wait, and the first again late in another one. `mails` are there at first, half as many more come
    for the second sender, and as many again for the last wait. What is on the wire is waited for.
    """
    rig.relay.script.dot_delay_s = delay_s
    first = await rig.start_sender(0)
    await rig.publish(mails)
    await rig.wait_claims_open()
    await asyncio.sleep(delay_s * 0.05)
    second = await rig.start_sender(1)
    await asyncio.sleep(delay_s * 0.05)
    await rig.publish(mails // 2)
    ending = asyncio.create_task(rig.terminate(first, again=True))
    await asyncio.sleep(delay_s * 0.5)
    await rig.terminate(second, again=True)
    await ending
    await rig.publish(mails // 2)
    await _wait_answers(rig, delay_s)
    await rig.wait_claims_open(timeout_s=delay_s * 2)
    await asyncio.sleep(delay_s * 0.9)
    await rig.terminate(first, again=True)
    finished = await rig.wait_finished(patience_s)
    verdict = await judge(rig, f"a relay answers {delay_s:.0f} s after the final dot; a sender joins, three SIGTERMs")
    verdict.require(finished, f"not finished within {patience_s:.0f} s")
    verdict.require_no_double()
    verdict.require_exit_within(delay_s + _EXIT_MARGIN_S)
    if reconciled:
        await reconcile(rig, verdict)
    return verdict


async def _wait_answers(rig: Rig, delay_s: float) -> None:
    """Until what is at the relay now has been answered."""
    already = len(rig.relay.taken)
    if rig.relay.at_dot:
        await rig.wait_taken(already + 1, delay_s * 2)
