"""An import of contacts, and how far it is. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class ImportState(StrEnum):
    """`receiving → finished`, or `→ aborted`: what had come by then was taken."""

    RECEIVING = "receiving"
    FINISHED = "finished"
    ABORTED = "aborted"


@dataclass(slots=True)
class Tally:
    """What became of rows. `rows` = `created` + `changed` + `unchanged` + `invalid`."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0
    invalid: int = 0

    @property
    def rows(self) -> int:
        """All of them."""
        return self.created + self.changed + self.unchanged + self.invalid

    @property
    def taken(self) -> int:
        """Those that are contacts."""
        return self.rows - self.invalid


@dataclass(frozen=True, slots=True)
class ContactImport:
    """An import as it is kept. `size` is what the upload said it has, in bytes."""

    id: UUID
    name: str | None
    state: ImportState
    detail: str | None
    size: int | None
    received: int
    rows: int
    created: int
    changed: int
    unchanged: int
    invalid: int
    created_at: datetime
    seen_at: datetime
    finished_at: datetime | None

    @property
    def percent(self) -> float | None:
        """Of the bytes that have been worked on; None where nobody said how many there are."""
        if self.state is ImportState.FINISHED:
            return 100.0
        return min(99.9, self.received * 1000 // self.size / 10) if self.size else None
