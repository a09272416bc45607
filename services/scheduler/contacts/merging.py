"""Several rows of a file that speak of one recipient. Pure."""

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from services.scheduler.importing.recipients import Recipient


class Folded(NamedTuple):
    """Each recipient once, as the last row leaves him. `repeated`: rows that spoke of one again, and said nothing new;
    `amended`: those that did."""

    recipients: list[Recipient]
    repeated: int
    amended: int


def fold_rows(rows: Iterable[Recipient]) -> Folded:
    """Rows one after the other, as if each had been stored before the next."""
    found: dict[UUID, Recipient] = {}
    repeated = amended = 0
    for row in rows:
        earlier = found.setdefault(row.id, row)
        if earlier is row:
            continue
        later = found[row.id] = _lay_over(earlier, row)
        if later[3:] == earlier[3:]:
            repeated += 1
        else:
            amended += 1
    return Folded(list(found.values()), repeated, amended)


def _lay_over(earlier: Recipient, later: Recipient) -> Recipient:
    attributes = {**(earlier.attributes or {}), **(later.attributes or {})}
    return later._replace(
        name=earlier.name if later.name is None else later.name,
        timezone=earlier.timezone if later.timezone is None else later.timezone,
        tags=earlier.tags if later.tags is None else later.tags,
        attributes=attributes if earlier.attributes is not None or later.attributes is not None else None,
    )
