"""What operators have paused, as one process knows it: asked for twice a second (P9).

All paused: no new record is read, so mail waits in Kafka. An account or a tag of an account paused: its mail is claimed
like any other, so that what has expired or was cancelled still ends; what would be sent is parked in a row of its own.
What has begun goes on to its end.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from services.sender.work import Work
from shared.metrics import PAUSES
from shared.retrying import Unavailable

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.4  # effective within a second
_ROOM = 2000  # rows brought back that wait to be sent: enough for a second or two, far below the bound


@dataclass(frozen=True, slots=True)
class Scope:
    """What a pause covers: all mail (both empty), an account, or a tag of an account."""

    account: str = ""
    tag: str = ""


EVERYTHING = Scope()


class PauseSource(Protocol):
    """Where pauses are kept. Every call may raise Unavailable."""

    async def list_scopes(self) -> list[Scope]:
        """What is paused."""

    async def park(self, works: Sequence[tuple[Work, Scope]]) -> None:
        """Give claims back, and keep their mail until the scope is resumed. May be repeated."""

    async def bring_back(self, room: int) -> int:
        """Let mail whose pause is over fall due again; returns how much."""


class Pauses:
    """Looks at the pauses in the background.

    Until they are known nothing may begin: a pause outlives the process. `on_change` is called after they have changed,
    and, while anything is paused, after every look: what has been claimed meanwhile may have to go back.
    """

    on_change: Callable[[], None]

    def __init__(self, source: PauseSource) -> None:
        self.known = False
        self._source = source
        self.scopes: frozenset[Scope] = frozenset()
        self._task: asyncio.Task[None] | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing new may begin."""
        return not self.known or EVERYTHING in self.scopes

    def find(self, account: str, tags: Sequence[str]) -> Scope | None:
        """The pause a mail falls under, the widest first."""
        scopes = self.scopes
        candidates = (EVERYTHING, Scope(account), *(Scope(account, tag) for tag in tags))
        return next((each for each in candidates if each in scopes), None)

    async def warn(self) -> str | None:
        """For /readyz: what is paused, which is no fault."""
        if EVERYTHING in self.scopes:
            return "everything is paused: POST /v1/sending/resume ends it"
        return f"pauses in force: {len(self.scopes)}, see GET /v1/sending" if self.scopes else None

    async def park(self, works: Sequence[tuple[Work, Scope]]) -> None:
        """Keep claimed mail until its pause is over. Raises Unavailable; may be repeated."""
        await self._source.park(works)

    async def start(self) -> None:
        """Begin looking."""
        self._task = asyncio.create_task(self._run(), name="pauses")

    async def stop(self) -> None:
        """Stop looking; what was known last stays."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except Unavailable:
                pass  # nothing can be claimed meanwhile
            except Exception:
                log.exception("pauses cannot be read")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        scopes = frozenset(await self._source.list_scopes())
        changed = scopes != self.scopes or not self.known
        if scopes != self.scopes:
            log.info("pauses changed", everything=EVERYTHING in scopes, pauses=len(scopes))
        self.scopes, self.known = scopes, True
        PAUSES.labels(scope="all").set(EVERYTHING in scopes)
        PAUSES.labels(scope="account").set(sum(1 for each in scopes if each.account and not each.tag))
        PAUSES.labels(scope="tag").set(sum(1 for each in scopes if each.tag))
        if changed or scopes:
            self.on_change()
        await self._source.bring_back(_ROOM)
