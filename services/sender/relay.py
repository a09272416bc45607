"""The relay: a pool of conversations fed from one queue, with a breaker for when nobody answers (P10).

A mail meets a connection only once that is open, so a relay that is away burns no attempt.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import structlog

from services.sender.connecting import OpenConnection, RelayAddress, RelayRefusesCredentials, RelayUnavailable
from services.sender.conversation import Conversation, Timeouts
from services.sender.parcel import Parcel
from shared.metrics import BREAKER_OPEN, RELAY_CONNECTIONS

log = structlog.get_logger(__name__)

Connect = Callable[[RelayAddress], Awaitable[OpenConnection]]


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """After `failures` connects in a row have failed the breaker opens; then a probe after growing pauses.

    A relay that takes mail but refuses one more connection is asked for more after `last_probe_s`.
    """

    failures: int = 3
    retry_s: float = 0.2
    first_probe_s: float = 1.0
    last_probe_s: float = 10.0


class Relay:
    """Sends parcels over at most `connections` conversations.

    `on_returned` gets the parcels that did not begin when the breaker opened. `on_ready` is called when it closed.
    """

    def __init__(
        self,
        address: RelayAddress,
        connect: Connect,
        *,
        connections: int,
        timeouts: Timeouts,
        on_returned: Callable[[list[Parcel]], None],
        on_ready: Callable[[], None],
        breaker: BreakerPolicy | None = None,
    ) -> None:
        self.address = address
        self.connections = connections
        self.last_error: str | None = None
        self._connect = connect
        self._timeouts = timeouts
        self._on_returned = on_returned
        self._on_ready = on_ready
        self._policy = breaker or BreakerPolicy()
        self._queue: deque[Parcel] = deque()
        self._idle: list[Conversation] = []
        self._open: set[Conversation] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._failures = 0  # since a connection was last opened
        self._probes = 0
        self._no_more_before = 0.0
        self._broken = False
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False  # nothing more begins
        self._stopping = False

    async def start(self) -> None:
        """Begin watching deadlines; connections are opened when there is mail."""
        self._tasks = [asyncio.create_task(self._watch(), name="relay-watch")]

    async def stop(self) -> None:
        """Close idle connections politely, the others at once: their mail becomes what it is (P6)."""
        self._stopping = True
        for task in (*self._tasks, *self._opening):
            task.cancel()
        for conversation in list(self._idle):
            conversation.quit()
        if self._open:
            await asyncio.sleep(0.05)
        for conversation in list(self._open):
            conversation.close()
        await asyncio.sleep(0)

    @property
    def available(self) -> bool:
        """False while the breaker is open: nothing is to be claimed."""
        return not self._broken

    async def check(self) -> str | None:
        """For /readyz."""
        if self._broken:
            return f"relay {self.address.name} is unavailable, probing: {self.last_error}"
        return None

    def submit(self, parcels: Iterable[Parcel]) -> None:
        """Queue parcels; each gets its ending through its own `on_done`, or comes back through `on_returned`."""
        self._queue.extend(parcels)
        self._move_on()

    def recall(self, unwanted: Callable[[Parcel], bool]) -> None:
        """Give back what is queued and not to be sent now."""
        recalled = [parcel for parcel in self._queue if unwanted(parcel)]
        if recalled:
            kept = [parcel for parcel in self._queue if not unwanted(parcel)]
            self._queue.clear()
            self._queue.extend(kept)
            self._on_returned(recalled)

    def begin_no_more(self) -> None:
        """Give back what is queued, now and from now on; what is on the wire goes on to its end."""
        self._closing = True
        self._give_back()

    def _move_on(self) -> None:
        """What is queued begins, or goes back where nothing can begin."""
        if self._closing or (self._broken and not self._open):
            self._give_back()
        elif not self._broken:
            self._feed()

    def _feed(self) -> None:
        while self._idle and self._queue:
            conversation = self._idle.pop()
            if not conversation.closing:  # it has said QUIT, and waits for the answer
                conversation.begin(self._queue.popleft())
        if self._failures:  # no more bursts until a connection is open again
            self._retry()
            return
        room = self.connections - len(self._open) - len(self._opening)
        if self._open and time.monotonic() < self._no_more_before:
            return
        for _ in range(min(room, len(self._queue))):
            self._open_one()

    def _retry(self) -> None:
        if self._queue and not self._opening:
            self._open_one(self._policy.retry_s)

    def _open_one(self, pause_s: float = 0.0) -> None:
        task = asyncio.create_task(self._try_open(pause_s), name="relay-open")
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _try_open(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        try:
            opened = await self._connect(self.address)
        except RelayUnavailable as exc:
            self._forget_opening()
            self._on_refusal(exc)
        except Exception as exc:
            log.exception("connecting failed", relay=self.address.name)
            self._forget_opening()
            self._on_refusal(RelayUnavailable(f"internal error: {type(exc).__name__}"))
        else:
            self._forget_opening()
            self._on_open(opened)

    def _forget_opening(self) -> None:
        """Called from within the task that opens, so that what follows may count without it."""
        task = asyncio.current_task()
        if task:
            self._opening.discard(task)

    def _on_open(self, opened: OpenConnection) -> None:
        if self._broken:
            log.info("relay available again", relay=self.address.name)
        self._failures, self._probes, self._broken, self.last_error = 0, 0, False, None
        conversation = Conversation(
            self.address.name, opened.abilities, self._timeouts, self._next_parcel, self._on_idle, self._on_lost
        )
        conversation.take_over(opened.transport)
        self._open.add(conversation)
        self._show_state()
        self._on_idle(conversation)
        self._on_ready()

    def _on_refusal(self, exc: RelayUnavailable) -> None:
        self.last_error = str(exc)
        if self._stopping:
            return
        if self._open:  # it takes mail, only not on one more connection
            self._no_more_before = time.monotonic() + self._policy.last_probe_s
            return
        self._failures += 1
        operators_turn = isinstance(exc, RelayRefusesCredentials)
        # A relay that is full says so at once to the many, while the few it takes are still shaking hands.
        all_failed = self._failures >= self._policy.failures and not self._opening
        if not self._broken and (operators_turn or all_failed):
            self._broken = True
            log.error("relay unavailable, sending pauses", relay=self.address.name, error=self.last_error)
            self._show_state()
            self._move_on()
        if self._broken:
            if not self._opening:
                pause_s = self._policy.first_probe_s * 2 ** min(self._probes, 20)
                self._probes += 1
                self._open_one(min(pause_s, self._policy.last_probe_s))
        else:
            self._retry()

    def _give_back(self) -> None:
        if self._queue:
            parcels = list(self._queue)
            self._queue.clear()
            self._on_returned(parcels)

    def _next_parcel(self) -> Parcel | None:
        return self._queue.popleft() if self._queue else None

    def _on_idle(self, conversation: Conversation) -> None:
        parcel = self._next_parcel()
        if parcel:
            conversation.begin(parcel)
        else:
            self._idle.append(conversation)

    def _on_lost(self, conversation: Conversation, untouched: list[Parcel]) -> None:
        self._open.discard(conversation)
        with contextlib.suppress(ValueError):
            self._idle.remove(conversation)
        self._show_state()
        self._queue.extendleft(reversed(untouched))
        if self._queue:
            self._move_on()

    def _show_state(self) -> None:
        RELAY_CONNECTIONS.labels(relay=self.address.name).set(len(self._open))
        BREAKER_OPEN.labels(relay=self.address.name).set(int(self._broken))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for conversation in list(self._open):
                conversation.check(now)
