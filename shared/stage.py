"""A stage of a pipeline: it takes all that waits at that moment as one group (P7).

No task and no future per item: an item is appended, a runner takes what is there. A slow item holds nobody; it meets
at the next stage whoever is there then.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Generic, TypeVar

import structlog

from shared.failpoints import has_failpoint, reach_failpoint
from shared.metrics import STAGE_GROUPS, STAGE_ITEMS, STAGE_SECONDS
from shared.retrying import retry_while_unavailable

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
_LINGER_STEPS = 5
_KEPT_PART = 8  # of the places one is for those that let others pass: they never stand still


class Stage(Generic[Item]):
    """Runs `handle` on groups of waiting items.

    `handle` may raise Unavailable: the group waits and is handled again, so it must be safe to repeat. Any other
    exception is a bug: items are then handled one by one, and `on_bug` gets the one that fails alone.
    `allowance` bounds the next group (0: wait until `wake` is called); `runners` groups may be at work at once.
    `linger_s`: the step by which a small group waits for company, while it grows. Without it a loop that is busy
    with groups of one is too busy to bring more: measured, 1.6 mails a group (docs/performance.md).
    `describe` is what a failpoint's mark is looked for in.
    `yields` tells which items let all others pass. They get one place in eight while others wait.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[list[Item]], Awaitable[None]],
        on_bug: Callable[[Item, Exception], None],
        *,
        limit: int = 256,
        runners: int = 1,
        allowance: Callable[[], int] | None = None,
        linger_s: float = 0.0,
        describe: Callable[[Item], bytes] = lambda _: b"",
        yields: Callable[[Item], bool] | None = None,
    ) -> None:
        self.name = name
        self._waiting: deque[Item] = deque()
        self._yielding: deque[Item] = deque()
        self._yields = yields
        self._passed = 0
        self._handle = handle
        self._on_bug = on_bug
        self._limit = limit
        self._runners = runners
        self._allowance = allowance
        self._linger_s = linger_s
        self._describe = describe
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._items = STAGE_ITEMS.labels(stage=name)
        self._groups = STAGE_GROUPS.labels(stage=name)
        self._seconds = STAGE_SECONDS.labels(stage=name)

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._waiting) + len(self._yielding)

    def __iter__(self) -> Iterator[Item]:
        """What waits."""
        return chain(self._waiting, self._yielding)

    def put(self, item: Item) -> None:
        """Let one item wait here."""
        (self._yielding if self._yields and self._yields(item) else self._waiting).append(item)
        self._wake.set()

    def put_all(self, items: Iterable[Item]) -> None:
        """Let items wait here."""
        if self._yields is None:
            self._waiting.extend(items)
            self._wake.set()
        else:
            for item in items:
                self.put(item)

    def put_back(self, items: Sequence[Item]) -> None:
        """Let items of the group at work wait here again, before all others."""
        self._waiting.extendleft(reversed(items))
        self._wake.set()

    def discard(self, unwanted: Callable[[Item], bool]) -> None:
        """Let go of what waits here and is nobody's any more."""
        for queue in (self._waiting, self._yielding):
            kept = [item for item in queue if not unwanted(item)]
            queue.clear()
            queue.extend(kept)

    def wake(self) -> None:
        """The allowance may have grown."""
        self._wake.set()

    def start(self) -> None:
        """Begin taking groups."""
        self._tasks = [
            asyncio.create_task(self._run(), name=f"stage-{self.name}-{number}") for number in range(self._runners)
        ]

    async def stop(self) -> None:
        """Cancel the runners; what waits here is not lost, nobody has acknowledged it."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self) -> None:
        while True:
            if self._linger_s and len(self):
                await self._linger()
            group = self._take()
            if not group:
                self._wake.clear()
                await self._wake.wait()
                continue
            started = time.monotonic()
            await self._work(group)
            self._items.inc(len(group))
            self._groups.inc()
            self._seconds.inc(time.monotonic() - started)

    async def _linger(self) -> None:
        """Wait while the group still grows; a lone item waits one step."""
        for _ in range(_LINGER_STEPS):
            before = len(self)
            if before >= self._limit // 2:
                return
            await asyncio.sleep(self._linger_s)
            if len(self) <= before:
                return

    def _take(self) -> list[Item]:
        room = self._limit if self._allowance is None else min(self._limit, self._allowance())
        if not self._yielding:
            self._passed = 0
            return _take_first(self._waiting, room)
        self._passed += min(room, len(self._waiting))
        kept = min(room, len(self._yielding), self._passed // _KEPT_PART)
        self._passed %= _KEPT_PART
        group = _take_first(self._waiting, room - kept)
        return group + _take_first(self._yielding, room - len(group))

    async def _work(self, group: list[Item]) -> None:
        try:
            await retry_while_unavailable(lambda: self._attempt(group), self.name)
        except Exception as exc:
            if len(group) == 1:
                log.exception("stage failed", stage=self.name)
                self._on_bug(group[0], exc)
                return
            for item in group:
                await self._work([item])
        else:
            await self._reach("after", group)

    async def _attempt(self, group: list[Item]) -> None:
        await self._reach("before", group)
        await self._handle(group)

    async def _reach(self, side: str, group: list[Item]) -> None:
        point = f"{self.name}.{side}"
        if has_failpoint(point):
            await reach_failpoint(point, [self._describe(item) for item in group])


def _take_first(queue: deque[Item], count: int) -> list[Item]:
    if count >= len(queue):
        group = list(queue)
        queue.clear()
        return group
    return [queue.popleft() for _ in range(count)]
