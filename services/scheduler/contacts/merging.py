"""Several rows of a file that speak of one recipient. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from services.scheduler.importing.recipients import ATTRIBUTES_LIMIT, MOST_ATTRIBUTES, Recipient

GROWN = (
    f"together with those that are there may be at most {MOST_ATTRIBUTES}, and have at most {ATTRIBUTES_LIMIT} bytes of"
    " JSON; null takes one away"
)
"""Why what is given of attributes is refused, that could be a contact's by itself."""


class Folded(NamedTuple):
    """Each recipient once, as the last row leaves him. `repeated`: rows that spoke of one again, and said nothing new;
    `amended`: those that did. `grown`: those of whom his rows say more than one contact may have."""

    recipients: list[Recipient]
    repeated: int
    amended: int
    grown: frozenset[UUID]


def fold_rows(rows: Iterable[Recipient]) -> Folded:
    """Rows one after the other, as if each had been stored before the next."""
    found: dict[UUID, Recipient] = {}
    grown: set[UUID] = set()
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
            if not _fit(later.attributes or {}):
                grown.add(row.id)
    return Folded(list(found.values()), repeated, amended, frozenset(grown))


def list_turns(rows: Iterable[Recipient]) -> list[list[Recipient]]:
    """The first row of each recipient, then the second of those who have one, and so on."""
    turns: list[list[Recipient]] = []
    seen: Counter[UUID] = Counter()
    for row in rows:
        if seen[row.id] == len(turns):
            turns.append([])
        turns[seen[row.id]].append(row)
        seen[row.id] += 1
    return turns


def _fit(attributes: Mapping[str, Any]) -> bool:
    kept = {name: value for name, value in attributes.items() if value is not None}
    return len(kept) <= MOST_ATTRIBUTES and len(orjson.dumps(kept)) <= ATTRIBUTES_LIMIT


def _lay_over(earlier: Recipient, later: Recipient) -> Recipient:
    attributes = {**(earlier.attributes or {}), **(later.attributes or {})}
    return later._replace(
        name=earlier.name if later.name is None else later.name,
        timezone=earlier.timezone if later.timezone is None else later.timezone,
        tags=earlier.tags if later.tags is None else later.tags,
        attributes=attributes if earlier.attributes is not None or later.attributes is not None else None,
    )
