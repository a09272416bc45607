"""A list of recipients. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID


class ListState(StrEnum):
    """`receiving → ready → deleted`; `receiving → aborted`: nobody is in it."""

    RECEIVING = "receiving"
    READY = "ready"
    ABORTED = "aborted"
    DELETED = "deleted"


class ProblemKind(StrEnum):
    """Why a row made no entry."""

    INVALID = "invalid"
    DUPLICATE = "duplicate"


class RowProblem(NamedTuple):
    """A row that made no entry. `detail` never repeats what stands in it."""

    number: int
    line: int
    kind: ProblemKind
    field: str | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientList:
    """A list as it is stored. `rows` = `recipients` + `duplicates` + `invalid`. It never changes once it is ready."""

    id: UUID
    name: str | None
    state: ListState
    detail: str | None
    rows: int
    invalid: int
    duplicates: int
    recipients: int
    variables: list[str]
    created_at: datetime
    ready_at: datetime | None
