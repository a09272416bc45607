"""The relays in order of priority, behind one narrow interface: what a pipeline needs to know of them (P9, P10).

A mail goes to the first relay that can begin it soon. What still waits for one after a moment moves to another, and
what nobody could begin within some seconds is parked, while mail flows.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from services.sender.parcel import Parcel
from services.sender.relay import Relay

MOVE_AFTER_S = 0.5
PARK_AFTER_S = 5.0
_LOOK_EVERY_S = 0.25


class Relays:
    """All relays of a process, the preferred first.

    Parcels that did not begin come back through `on_returned`: no relay is left, or the process drains. `on_late` gets
    those that could not begin in time although mail flows. `on_ready` is called when more may begin.
    """

    def __init__(
        self,
        relays: Sequence[Relay],
        *,
        on_returned: Callable[[list[Parcel]], None],
        on_late: Callable[[list[Parcel]], None],
        on_ready: Callable[[], None],
    ) -> None:
        self.relays = list(relays)
        self._on_returned = on_returned
        self._on_late = on_late
        self._flowed = 0.0  # when a mail last ended at any of them
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        for relay in self.relays:
            relay.hooks.on_ready = on_ready
            self._listen(relay)

    def _listen(self, relay: Relay) -> None:
        relay.hooks.on_returned = lambda parcels: self._replace(parcels, relay)
        relay.hooks.on_unfit = lambda parcel: self._find_fitting(parcel, relay)

    # --- what the pipeline knows ---

    @property
    def available(self) -> bool:
        """False while no relay can be reached (P10): nothing is to be claimed."""
        return any(relay.available for relay in self.relays)

    @property
    def capacity(self) -> int:
        """How many mails may be in transit at once, claimed and without an ending.

        What lies at a relay that takes no more does not count against the others.
        """
        if len(self.relays) == 1:
            return self.relays[0].capacity
        return sum(max(relay.capacity, relay.load) for relay in self.relays) if self.available else 0

    async def start(self) -> None:
        """Begin watching; connections are opened when there is mail."""
        for relay in self.relays:
            await relay.start()
        if len(self.relays) > 1:
            self._task = asyncio.create_task(self._watch(), name="relays-watch")

    async def stop(self) -> None:
        """Close every connection; mail on the wire becomes what it is (P6)."""
        if self._task:
            self._task.cancel()
        await asyncio.gather(*(relay.stop() for relay in self.relays))

    async def check(self) -> str | None:
        """For /readyz: None while any relay can be used."""
        return None if self.available else "; ".join(self._describe_faults())

    async def warn(self) -> str | None:
        """For /readyz: the relays that are away while another works."""
        return "; ".join(self._describe_faults()) or None if self.available else None

    def _describe_faults(self) -> list[str]:
        return [fault for relay in self.relays if (fault := relay.describe_fault())]

    def submit(self, parcels: Iterable[Parcel]) -> None:
        """Send; each parcel gets its ending through its own `on_done`, or comes back."""
        if len(self.relays) == 1:
            self.relays[0].submit(parcels)
            return
        now = time.monotonic()
        waiting = list(parcels)
        for parcel in waiting:
            parcel.queued = now
        self._place(waiting, now)

    def recall(self, unwanted: Callable[[Parcel], bool]) -> None:
        """Give back what has not begun and is not to be sent now."""
        recalled = [parcel for relay in self.relays for parcel in relay.recall(unwanted)]
        if recalled:
            self._on_returned(recalled)

    def begin_no_more(self) -> None:
        """Give back what has not begun, now and from now on; what is on the wire goes on to its end."""
        self._closing = True
        for relay in self.relays:
            relay.begin_no_more()

    # --- placing ---

    def _place(self, parcels: list[Parcel], now: float, other_than: Relay | None = None) -> None:
        """Each to the first relay that can begin it soon; the rest to the one that is least in arrears."""
        beyond_ascii = [parcel for parcel in parcels if parcel.needs_utf8]
        if beyond_ascii and len(beyond_ascii) < len(parcels):
            self._place([parcel for parcel in parcels if not parcel.needs_utf8], now, other_than)
            parcels = beyond_ascii
        candidates = [each for each in self.relays if each is not other_than and each.available]
        if beyond_ascii:  # a relay that is not known to refuse them; where there is none, the first one says so
            candidates = [each for each in candidates if each.utf8 is not False] or candidates
        if not candidates:
            self._on_returned(parcels)
            return
        for relay in candidates:
            room = relay.room(now)
            if room > 0:
                relay.submit(parcels[:room])
                parcels = parcels[room:]
            if not parcels:
                return
            relay.traffic.press(now)
        max(candidates, key=lambda each: (not each.is_stalled(now), each.capacity - each.load)).submit(parcels)

    def _replace(self, parcels: list[Parcel], broken: Relay) -> None:
        """A relay gives these back: its breaker has opened, or the process drains."""
        if self._closing:
            self._on_returned(parcels)
        else:
            self._place(parcels, time.monotonic(), broken)

    def _find_fitting(self, parcel: Parcel, unfit: Relay) -> bool:
        """Hand a mail that one relay cannot carry to another that may."""
        if parcel.needs_utf8:
            others = [each for each in self.relays if each is not unfit and each.available and each.utf8 is not False]
        else:  # too large there: down the list, so that each is asked once
            others = [each for each in self.relays[self.relays.index(unfit) + 1 :] if each.available]
        if not others or self._closing:
            return False
        parcel.revive()
        others[0].submit([parcel])
        return True

    # --- as time passes ---

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            now = time.monotonic()
            self._flowed = max(self._flowed, *(relay.traffic.last_end for relay in self.relays))
            for relay in self.relays:
                if relay.count_waiting(now - MOVE_AFTER_S):
                    self._relieve(relay, now)

    def _relieve(self, relay: Relay, now: float) -> None:
        others = [each for each in self.relays if each is not relay]
        room = sum(max(0, each.room(now)) for each in others if each.available)
        if room:
            self._place(relay.give_up(room), now, relay)
        if now - self._flowed < PARK_AFTER_S:
            late = relay.count_waiting(now - PARK_AFTER_S)
            if late:
                self._on_late(relay.give_up(late))
