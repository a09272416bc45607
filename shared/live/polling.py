"""Streams of state: how something stands, looked up once a second for all who watch, and told where it has changed.

What is told is the newest state, not every one there was. So a viewer who comes back needs no history: the id of what
he was told last says whether anything is new to him.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from shared.live.events import Message
from shared.live.queueing import Listener
from shared.live.slots import Slots
from shared.live.streams import Guard, IsAllowed, Streams, explain_end, tell
from shared.retrying import Unavailable

log = structlog.get_logger(__name__)

Key = TypeVar("Key", bound=Hashable)
_TOLD = "told"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How something stands. `message.id` is another one whenever it has changed; nothing comes after the last."""

    message: Message
    is_last: bool


@dataclass(frozen=True, slots=True)
class ViewRequest(Generic[Key]):
    """What a viewer is to see, and for how long. `since`: the id of what he was told last, None: nothing yet."""

    key: Key
    account: str
    since: str | None
    is_allowed: IsAllowed
    stopping: asyncio.Event | None = None


class Poller(Generic[Key]):
    """All viewers of a process. `look` is asked about all that is watched at once, every `every_s`, while it is."""

    def __init__(
        self,
        look: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Snapshot]]],
        slots: Slots,
        *,
        every_s: float = 1.0,
    ) -> None:
        self._look = look
        self._every_s = every_s
        self._streams = Streams(slots)
        self._viewers: defaultdict[Key, set[Listener]] = defaultdict(set)
        self._told: dict[Listener, str | None] = {}
        self._newest: dict[Key, Snapshot] = {}
        self._task: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Look no more."""
        self._streams.stop()
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait([task])

    @asynccontextmanager
    async def open(self, request: ViewRequest[Key], kind: str) -> AsyncIterator[AsyncIterator[Sequence[Message]]]:
        """A stream that ends with the last snapshot, or when there is none any more. Raises TooManyStreams."""
        listener = Listener(request.account, lambda _: True)
        with self._streams.hold(listener, kind):
            self._add(request, listener)
            try:
                self._streams.watch(request.stopping)
                async with aclosing(self._follow(request, listener)) as stream:
                    yield stream
            finally:
                self._remove(request.key, listener)

    async def _follow(self, request: ViewRequest[Key], listener: Listener) -> AsyncGenerator[Sequence[Message], None]:
        guard = Guard(request.is_allowed, listener)
        async with aclosing(tell(listener, guard, lambda: self._told[listener] or "0")) as happening:
            async for messages in happening:
                yield messages
                newest = self._newest.get(request.key)
                if newest and newest.is_last and messages[-1].id == newest.message.id:
                    return
        if listener.ended != _TOLD:
            yield [explain_end(listener.ended or "shutdown")]

    def _add(self, request: ViewRequest[Key], listener: Listener) -> None:
        self._viewers[request.key].add(listener)
        self._told[listener] = request.since
        if request.key in self._newest:
            self._offer(listener, self._newest[request.key])
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="live-poller")

    def _remove(self, key: Key, listener: Listener) -> None:
        del self._told[listener]
        self._viewers[key].discard(listener)
        if not self._viewers[key]:
            del self._viewers[key]
            self._newest.pop(key, None)

    async def _run(self) -> None:
        """Until nobody watches for one turn: who comes meanwhile waits for it, so that turns keep their distance."""
        while self._viewers:
            asked = tuple(self._viewers)
            try:
                found = await self._look(asked)
            except Unavailable as exc:
                log.warning("viewers wait", error=str(exc))
            except Exception:
                log.exception("viewers cannot be told anything")
            else:
                self._spread(found)
                self._end_gone([key for key in asked if key not in found])
            await asyncio.sleep(self._every_s)
        self._task = None

    def _spread(self, found: Mapping[Key, Snapshot]) -> None:
        for key, snapshot in found.items():
            viewers = self._viewers.get(key)
            if viewers:
                self._newest[key] = snapshot
                for listener in viewers:
                    self._offer(listener, snapshot)

    def _end_gone(self, keys: Sequence[Key]) -> None:
        """Who watches found it there: it was deleted since."""
        for key in keys:
            for listener in self._viewers.get(key, ()):
                listener.end("gone")

    def _offer(self, listener: Listener, snapshot: Snapshot) -> None:
        if self._told[listener] != snapshot.message.id:
            self._told[listener] = snapshot.message.id
            listener.replace(snapshot.message)
        elif snapshot.is_last:
            listener.end(_TOLD)  # he came back for more, and there is none
