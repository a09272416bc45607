"""Senders ended in the middle of their work, by SIGKILL or by SIGTERM, while another one joins and leaves."""

from tests.chaos.judging import judge, reconcile
from tests.chaos.rig import Rig
from tests.chaos.verdict import Verdict

EXIT_LIMIT_S = 35.0


async def end_senders(
    rig: Rig,
    *,
    gently: bool,
    mails: int = 5004,
    ends: int = 5,
    dot_delay_s: float = 0.04,
    patience_s: float = 240.0,
    reconciled: bool = True,
) -> Verdict:
    """End the first sender `ends` times under load; the second joins after the first end and leaves at the last.

    The relay's delay after the dot keeps claims open. Each end waits until the process itself has claimed, however long
    that takes: mail keeps coming until then. SIGKILL may make doubles, which the ledger must show; SIGTERM none.
    """
    rig.relay.script.dot_delay_s = dot_delay_s
    first = await rig.start_sender(0)
    second = None
    portions = ends + 1
    for number in range(1, portions + 1):
        leaving = first if number <= ends else second
        assert leaving
        claimed = await rig.count_claims(leaving)
        async with rig.loaded(mails // portions):
            await rig.wait_claiming(leaving, claimed)
            if number > ends:
                await rig.terminate(leaving)
            elif gently:
                await rig.terminate(leaving, again=True)
            else:
                await rig.kill(leaving)
            if number == 1:
                second = await rig.start_sender(1)
            await first.wait_ready()
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
