"""The connections to one relay: opened when there is mail, ended when idle, used up or beyond the share."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from services.sender.connecting import RelayUnavailable
from services.sender.conversation import FAREWELL_S, Timeouts
from services.sender.feed import Feed
from services.sender.lines import Address, Line, Opened
from services.sender.parcel import Parcel

log = structlog.get_logger(__name__)

_WAIT_S = 0.25


class Listener(Protocol):
    """Who hears of connections and of mails that end."""

    def on_opened(self, opened: Opened) -> None:
        """A connection has been opened, and is idle."""

    def on_refused(self, exc: RelayUnavailable) -> None:
        """One could not be opened."""

    def hear(self, parcel: Parcel, seat: "Seat") -> bool:
        """The ending of a parcel that was on the wire. True: it goes on, see Carrier."""

    def on_lost(self, line: Line, seat: "Seat", untouched: list[Parcel]) -> None:
        """One has ended; `untouched` had not begun."""


class Seat:
    """A place at the queue: what one connection may still carry. `troubled`: it has met the relay's own trouble."""

    __slots__ = ("_feed", "_listener", "left", "troubled")

    def __init__(self, listener: Listener, feed: Feed, mails: int) -> None:
        self._listener = listener
        self._feed = feed
        self.left = mails
        self.troubled = False

    def next_parcel(self) -> Parcel | None:
        """The next mail; None while there is none, or none may begin. The hot path: a few integers."""
        feed = self._feed
        if not feed.queue or feed.allowance <= 0 or self.left <= 0:
            return None
        feed.allowance -= 1
        self.left -= 1
        feed.on_wire += 1
        parcel = feed.queue.popleft()
        parcel.carrier = self
        return parcel

    def takes_back(self, parcel: Parcel) -> bool:
        """The ending of what it has carried, before anybody else hears of it (parcel.py)."""
        return self._listener.hear(parcel, self)


class Pool:
    """Opens, feeds and ends connections; `mails_per_connection` are carried by each."""

    def __init__(
        self,
        listener: Listener,
        feed: Feed,
        address: Address,
        connect: Callable[..., Awaitable[Opened]],
        timeouts: Timeouts,
        mails_per_connection: int,
    ) -> None:
        self.open: dict[Line, Seat] = {}
        self.idle: list[Line] = []
        self.opening: set[asyncio.Task[None]] = set()
        self.dialling = 0  # connects under way; the others of `opening` pause before theirs
        self._listener = listener
        self._feed = feed
        self._address = address
        self._connect = connect
        self._timeouts = timeouts
        self._mails_per_connection = mails_per_connection

    async def stop(self) -> None:
        """End politely what no mail is on, within 2 s (a busy relay takes a moment to read QUIT), then all else."""
        for task in self.opening:
            task.cancel()
        end = time.monotonic() + FAREWELL_S
        while time.monotonic() < end:
            for line in list(self.open):
                if not line.at_work and not line.closing:
                    line.quit()
            if not any(line.closing for line in self.open):
                break
            await asyncio.sleep(0.02)
        for line in list(self.open):
            line.close()
        await asyncio.sleep(0)

    @property
    def size(self) -> int:
        """Connections, those being opened among them."""
        return len(self.open) + self.dialling

    def feed(self) -> None:
        """Begin on idle connections what may begin."""
        feed = self._feed
        while self.idle and feed.queue and feed.allowance > 0:
            line = self.idle.pop()
            if line.closing:  # it has said QUIT, and waits for the answer
                continue
            if parcel := self.open[line].next_parcel():
                line.begin(parcel)
            else:
                self._end(line)

    def look(self, now: float) -> float:
        """Drop what hangs and what is idle for long. Returns how long the longest silence has lasted, in seconds."""
        silent_s = 0.0
        for line in list(self.open):
            line.check(now)
            silent_s = max(silent_s, line.silent_s(now))
        return silent_s

    # --- opening ---

    def open_one(self, pause_s: float = 0.0) -> None:
        """Open a connection, after a pause."""
        task = asyncio.create_task(self._try_open(pause_s), name="relay-open")
        self.opening.add(task)
        task.add_done_callback(self.opening.discard)

    async def _try_open(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        while pause_s and self.size >= self._feed.throttle.connections:
            await asyncio.sleep(_WAIT_S)  # a probe, too, needs a share
        try:
            opened = await self._dial()
        except RelayUnavailable as exc:
            self._forget_opening()
            self._listener.on_refused(exc)
        except Exception as exc:
            log.exception("connecting failed", relay=self._address.name)
            self._forget_opening()
            self._listener.on_refused(RelayUnavailable(f"internal error: {type(exc).__name__}"))
        else:
            self._forget_opening()
            self._take_in(opened)

    async def _dial(self) -> Opened:
        self.dialling += 1
        try:
            return await self._connect(self._address)
        finally:
            self.dialling -= 1

    def _forget_opening(self) -> None:
        """Called from within the task that opens, so that what follows may count without it."""
        task = asyncio.current_task()
        if task:
            self.opening.discard(task)

    def _take_in(self, opened: Opened) -> None:
        seat = Seat(self._listener, self._feed, self._mails_per_connection)
        line = opened.converse(self._address.name, self._timeouts, seat.next_parcel, self._on_idle, self._on_lost)
        self.open[line] = seat
        self.idle.append(line)
        self._listener.on_opened(opened)

    # --- ending ---

    def _on_idle(self, line: Line) -> None:
        seat = self.open[line]
        if seat.left <= 0 or not self._feed.available:
            self._end(line)
        elif parcel := seat.next_parcel():
            line.begin(parcel)
        else:
            self.idle.append(line)

    def _on_lost(self, line: Line, untouched: list[Parcel]) -> None:
        seat = self.open.pop(line)
        with contextlib.suppress(ValueError):
            self.idle.remove(line)
        self._listener.on_lost(line, seat, untouched)

    def end_surplus(self) -> None:
        """Connections beyond the share end: the idle at once, the others after the mail they carry."""
        staying = [line for line, seat in self.open.items() if seat.left > 0 and not line.closing]
        staying.sort(key=self.idle.__contains__)  # those at work stay rather than the idle
        for line in staying[self._feed.throttle.connections :]:
            self.open[line].left = 0
            if line in self.idle:
                self._end(line)

    def end_idle(self) -> None:
        """Where one connection broke, those that lie idle may be dead, too: what was on it is to have a fresh one."""
        for line in list(self.idle):
            self._end(line)

    def _end(self, line: Line) -> None:
        with contextlib.suppress(ValueError):
            self.idle.remove(line)
        if not line.closing:
            line.quit()
