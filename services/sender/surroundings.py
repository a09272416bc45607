"""What lies around the pipeline's stages, and what they ask of it."""

from collections.abc import Awaitable, Callable
from typing import Any

from services.sender.admission import Admission
from services.sender.bounding import Bound
from services.sender.ledger import LedgerEntry
from services.sender.pausing import Pauses
from services.sender.routing import Relays
from services.sender.work import Work
from shared.consuming import FaustLane
from shared.stage import Stage

LINGER_S = 0.004  # a step in which a small group waits for company
OnBug = Callable[[Any, Exception], None]
"""Gets an item that makes its stage fail alone, and how."""


class Surroundings:
    """What stands here without a value is set by whoever builds the worker, before any work.

    `suppress` takes settled mails before they are settled, where an address that is dead is to be suppressed.
    """

    lane: FaustLane
    admission: Admission
    relays: Relays
    pauses: Pauses
    bound: Bound
    suppress: Callable[[list[LedgerEntry]], Awaitable[None]] | None = None

    @property
    def closing(self) -> bool:
        """The process drains: nothing more begins (P8)."""
        return self.lane.closing_since is not None

    @property
    def may_read(self) -> bool:
        """Whether new mail is taken in: not while everything is paused, nor at the bound of what waits (P9)."""
        return not self.pauses.everything and not self.bound.reached

    def is_nobodys(self, work: Work) -> bool:
        """Whether nobody here needs this work any more: its assignment ended before it began."""
        return work.due is None and not any(self.lane.is_current(ticket) for ticket in work.tickets)


def create_stage(
    name: str, handle: Callable[[list[Work]], Awaitable[None]], on_bug: OnBug, **options: Any
) -> Stage[Work]:
    """A stage of works; failpoints find their marks in the mails."""
    return Stage[Work](name, handle, on_bug, describe=lambda work: work.mail.to_json(), **options)
