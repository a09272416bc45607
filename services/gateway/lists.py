"""Which mails a list shows, and where its pages end. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from shared.cursors import mark_list, read_time_cursor, write_time_cursor
from shared.problems import Problem
from shared.ranges import check_range

_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
_LEAST_ID = UUID(int=0)  # a position with it comes before every mail of its moment
_AFTER = "/query/after"


class ListFilter(StrEnum):
    """What a list may be narrowed to: one of these, for each has an index of its own."""

    STATUS = "status"
    RECIPIENT = "recipient"
    TAG = "tag"
    MAILING = "mailing_id"
    BATCH = "batch_id"
    KEY = "api_key_id"


@dataclass(frozen=True, slots=True)
class MailList:
    """An account's mails, newest first, created at `since` or later and before `until`; `kind` None: all of them."""

    account: str
    kind: ListFilter | None
    value: str
    since: datetime
    until: datetime

    @property
    def start(self) -> tuple[datetime, UUID]:
        """The position that the first page comes after."""
        return (self.until, _LEAST_ID)

    def read_cursor(self, text: str) -> tuple[datetime, UUID]:
        """The position a page comes after. Raises Problem 422 for what no page of this list has given."""
        return read_time_cursor(text, _AFTER, of=self._mark)

    def write_cursor(self, created_at: datetime, email_id: UUID) -> str:
        """The position after a mail."""
        return write_time_cursor(created_at, email_id, of=self._mark)

    @property
    def _mark(self) -> str:
        range_ = (self.since.isoformat(), self.until.isoformat())
        return mark_list(self.account, self.kind or "", self.value, *range_)


def choose_list(
    account: str, filters: Mapping[ListFilter, str | None], since: datetime | None, until: datetime | None
) -> MailList:
    """The list that is asked for. Raises Problem 422 where two filters are given, or no time lies in the range."""
    given = [(kind, value) for kind, value in filters.items() if value is not None]
    if len(given) > 1:
        names = " and ".join(kind.value for kind, _ in given)
        detail = f"Give at most one of {', '.join(ListFilter)}; {names} were given. Narrow the time range instead."
        errors = [{"detail": "only one filter at a time", "pointer": f"/query/{kind.value}"} for kind, _ in given]
        raise Problem(422, "one-filter-only", detail, errors=errors)
    check_range(since, until)
    kind, value = given[0] if given else (None, "")
    return MailList(account, kind, value, since or _FIRST, until or _LAST)
