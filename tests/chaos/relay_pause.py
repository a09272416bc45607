"""The only relay is away for longer than a poll interval: the product's setting survives it, a short one does not."""

import asyncio
import time

from tests.chaos.judging import judge, reconcile
from tests.chaos.rig import Rig
from tests.chaos.verdict import Verdict

_SOON_S = 15.0


async def pause_the_relay(
    rig: Rig,
    *,
    away_s: float = 30.0,
    mails: int = 3000,
    poll_interval_s: float | None = None,
    stalled_after_s: float = 25.0,
    patience_s: float = 60.0,
    reconciled: bool = True,
) -> Verdict:
    """Take the relay away for `away_s` under load. With `poll_interval_s` it is the control run, which must stall."""
    rig.relay.script.dot_delay_s = 0.02
    control = {"MILENA_MAX_POLL_INTERVAL": str(poll_interval_s)} if poll_interval_s else {}
    sender = await rig.start_sender(0, MILENA_STALLED_AFTER=str(stalled_after_s), **control)
    load = asyncio.create_task(rig.publish(mails, over_s=away_s / 2))
    await rig.wait_taken(mails // 20)
    await rig.relay.stop()
    await asyncio.sleep(away_s)
    taken = len(rig.relay.taken)
    await load
    await rig.relay.start()
    back = time.monotonic()
    finished = await rig.wait_finished(patience_s)
    took = time.monotonic() - back
    name = f"the only relay is away for {away_s:.0f} s"
    if poll_interval_s is None:
        verdict = await judge(rig, name)
        verdict.require(finished, f"not everything was sent {patience_s:.0f} s after the relay's return")
        verdict.require(sender.restarts == 0, "the process was restarted")
        verdict.notes.append(f"{mails - taken} mails waited, all sent {took:.1f} s after the relay's return")
        verdict.require(took < _SOON_S + (mails - taken) / 300, f"{took:.1f} s to send what had waited")
        if reconciled:
            await reconcile(rig, verdict)
        return verdict
    return await _judge_control(rig, f"control: {name}, poll interval {poll_interval_s:.0f} s", taken)


async def _judge_control(rig: Rig, name: str, taken: int) -> Verdict:
    """The control must stall: what is left unsent is its result, no fault."""
    sender = rig.senders[0]
    verdict = Verdict(name, mails=len(rig.accepted), seconds=time.monotonic() - rig.started)
    left = len(rig.accepted) - len(rig.relay.taken)
    verdict.restarts = len(sender.exits)
    verdict.notes.append(f"{taken} mails taken before the relay's return, {len(rig.relay.taken) - taken} after it")
    if sender.exits:
        verdict.notes.append(f"ended by liveness, exit codes {sender.exits}; the restart went on")
    elif left:
        verdict.notes.append(f"stalled: {left} mails unsent")
    verdict.require(bool(left or sender.exits), "the control run did not stall: it shows nothing about the setting")
    return verdict
