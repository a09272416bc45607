"""A rebalance storm: senders join and leave every second or so, under load, some of them killed."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

import httpx

from tests.chaos.judging import judge, reconcile
from tests.chaos.killed import EXIT_LIMIT_S
from tests.chaos.rig import Rig
from tests.chaos.verdict import Verdict
from tests.support.services import ServiceProcess


@dataclass
class Guests:
    """Senders that come and go. Each has a slot of its own, so that its coming is a rebalance, and its end one, too."""

    rig: Rig
    first_slot: int
    present: list[ServiceProcess] = field(default_factory=list)
    joined: int = 0
    killed: int = 0
    exits_s: list[float] = field(default_factory=list)
    _leaving: list[asyncio.Task[None]] = field(default_factory=list)

    def join(self) -> None:
        """One more."""
        env = {"MILENA_SMTP_PORT": str(self.rig.relay.port), "MILENA_SLOT": str(self.first_slot + self.joined)}
        self.present.append(self.rig.services.start("services.sender", "worker", env=env))
        self.joined += 1

    async def leave(self) -> None:
        """The oldest one that is at work: every other by SIGKILL."""
        if not self.present or not await _is_ready(self.present[0]):
            return
        guest = self.present.pop(0)
        if len(self.exits_s) + len(self._leaving) > self.killed:
            await asyncio.to_thread(guest.kill)
            self.killed += 1
        else:
            self._leaving.append(asyncio.create_task(self._terminate(guest)))

    async def end(self) -> None:
        """All of them leave, in order."""
        self._leaving += [asyncio.create_task(self._terminate(guest)) for guest in self.present]
        self.present = []
        await asyncio.gather(*self._leaving)

    async def _terminate(self, guest: ServiceProcess) -> None:
        with contextlib.suppress(AssertionError):
            await guest.wait_ready()
        began = time.monotonic()
        guest.terminate()
        code = await guest.wait_exit(90)
        assert code == 0, f"a sender ended with {code} at SIGTERM:\n{guest.read_log()[-4000:]}"
        self.exits_s.append(time.monotonic() - began)


async def _is_ready(process: ServiceProcess) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            return (await client.get(f"{process.url}/readyz")).status_code == 200
    return False


async def rebalance_often(
    rig: Rig,
    *,
    mails: int = 6000,
    lasts_s: float = 30.0,
    every_s: float = 1.0,
    most: int = 4,
    patience_s: float = 240.0,
    reconciled: bool = True,
) -> Verdict:
    """Every `every_s` a sender joins or leaves, by turns, never more than `most` besides the two that stay."""
    rig.relay.script.dot_delay_s = 0.15
    for slot in range(2):
        await rig.start_sender(slot)
    guests = Guests(rig, first_slot=2)
    load = asyncio.create_task(rig.publish(mails, over_s=lasts_s))
    began = time.monotonic()
    while time.monotonic() - began < lasts_s:
        if len(guests.present) < most:
            guests.join()
        await asyncio.sleep(every_s)
        await guests.leave()
        await asyncio.sleep(every_s)
    await guests.end()
    await load
    finished = await rig.wait_finished(patience_s)
    verdict = await judge(rig, f"senders join and leave every second or so for {lasts_s:.0f} s, every other is killed")
    verdict.kills, verdict.exits_s = guests.killed, guests.exits_s
    verdict.notes.append(f"{guests.joined} senders joined, {guests.killed} of them were killed")
    verdict.require(finished, f"not finished {patience_s:.0f} s after the storm")
    verdict.require(verdict.restarts == 0, f"{verdict.restarts} processes ended by themselves")
    verdict.require(guests.killed > 0 and bool(guests.exits_s), "nobody left: there was no storm")
    verdict.require_exit_within(EXIT_LIMIT_S)
    if reconciled:
        await reconcile(rig, verdict)
    return verdict
