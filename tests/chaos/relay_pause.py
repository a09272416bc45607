"""The only relay is away for longer than a poll interval: the product's setting survives it, a short one does not."""

import asyncio
import time

from tests.chaos.judging import judge, reconcile
from tests.chaos.rig import Rig
from tests.chaos.verdict import Verdict

_SOON_S = 10.0
_RATE = 50  # mails a second that any machine sends once the relay is back


async def pause_the_relay(
    rig: Rig,
    *,
    away_s: float = 30.0,
    mails: int = 400,
    size: int = 200_000,
    poll_interval_s: float | None = None,
    stalled_after_s: float = 25.0,
    patience_s: float = 90.0,
    reconciled: bool = True,
) -> Verdict:
    """Take the relay away for `away_s` under load. With `poll_interval_s` it is the control run, which must stall.

    The mails are more than the 32 MiB a sender buffers, so that consumption really stands still: with many small ones
    Faust goes on polling those partitions that have no more.
    """
    control = {"MILENA_MAX_POLL_INTERVAL": str(poll_interval_s)} if poll_interval_s else {}
    rig.relay.script.dot_delay_s = 0.02
    sender = await rig.start_sender(0, MILENA_STALLED_AFTER=str(stalled_after_s), **control)
    load = asyncio.create_task(rig.publish(mails, size=size))
    await rig.wait_taken(mails // 20)
    await rig.relay.stop()
    await asyncio.sleep(away_s)
    taken = len(rig.relay.taken)
    await load
    rig.relay.script.dot_delay_s = 0.0
    await rig.relay.start()
    back = time.monotonic()
    everybody = await rig.wait_everybody(patience_s)
    took = time.monotonic() - back
    name = f"the only relay is away for {away_s:.0f} s"
    if poll_interval_s is not None:
        return await _judge_control(rig, f"control: {name}, poll interval {poll_interval_s:.0f} s", taken)
    finished = everybody and await rig.wait_finished(patience_s)
    verdict = await judge(rig, name)
    verdict.require(finished, f"not everything was sent {patience_s:.0f} s after the relay's return")
    verdict.require(sender.restarts == 0, f"the process was restarted, exit codes {sender.exits}")
    verdict.notes.append(f"{mails - taken} mails waited; the relay had them {took:.1f} s after its return")
    verdict.require(took < _SOON_S + (mails - taken) / _RATE, f"{took:.1f} s to send what had waited")
    if reconciled:
        await reconcile(rig, verdict)
    return verdict


async def _judge_control(rig: Rig, name: str, taken: int) -> Verdict:
    """The control must stall: what it leaves unsent, or the process that is ended for it, is its result."""
    exits = rig.senders[0].exits
    verdict = Verdict(name, mails=len(rig.accepted), seconds=time.monotonic() - rig.started, restarts=len(exits))
    verdict.sent = len(rig.relay.taken)
    left = len(rig.accepted) - verdict.sent
    verdict.notes.append(f"{taken} mails taken before the relay's return, {verdict.sent - taken} after it")
    if exits:
        verdict.notes.append(f"liveness ended the process {len(exits)} times (exit {exits}); the restarted one went on")
    elif left:
        verdict.notes.append(f"stalled: {left} mails unsent")
    verdict.require(bool(left or exits), "the control run did not stall: it shows nothing about the setting")
    return verdict
