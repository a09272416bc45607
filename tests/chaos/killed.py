"""Senders ended in the middle of their work, by SIGKILL or by SIGTERM, while another one joins and leaves."""

import asyncio

from tests.chaos.judging import judge, reconcile
from tests.chaos.rig import Rig
from tests.chaos.verdict import Verdict

EXIT_LIMIT_S = 35.0


async def end_senders(
    rig: Rig,
    *,
    gently: bool,
    mails: int = 5000,
    ends: int = 5,
    dot_delay_s: float = 0.04,
    patience_s: float = 240.0,
    reconciled: bool = True,
) -> Verdict:
    """End the first sender `ends` times, spread over the load; the second joins after the first end and leaves early.

    The relay's delay after the dot keeps claims open, so that each end meets some. SIGKILL may make doubles, each of
    which the ledger must show; SIGTERM none.
    """
    rig.relay.script.dot_delay_s = dot_delay_s
    first = await rig.start_sender(0)
    load = asyncio.create_task(rig.publish(mails))
    second = None
    for number in range(1, ends + 1):
        await rig.wait_taken(mails * number // (ends + 2))
        await rig.wait_claims_open()
        if gently:
            await rig.terminate(first, again=True)
        else:
            await rig.kill(first)
        if number == 1:
            second = await rig.start_sender(1)
    await load
    if second:
        await rig.wait_claims_open()
        await rig.terminate(second)
    finished = await rig.wait_finished(patience_s)
    verdict = await judge(
        rig, f"a sender gets {'SIGTERM' if gently else 'SIGKILL'} {ends} times, another joins and leaves"
    )
    verdict.require(finished, f"not finished {patience_s:.0f} s after the last mail was published")
    verdict.require_exit_within(EXIT_LIMIT_S)
    verdict.require(verdict.restarts == 0, f"{verdict.restarts} processes ended by themselves")
    if gently:
        verdict.require_no_double()
    else:
        verdict.require(verdict.takeovers > 0, "no claim of a killed process was taken over: the kills met none")
        verdict.require(verdict.redeliveries > 0, "no mail was redelivered: the kills met none")
    if reconciled:
        await reconcile(rig, verdict)
    return verdict
