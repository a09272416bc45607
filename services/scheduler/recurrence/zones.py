"""Time zones by their IANA names, from the pinned `tzdata` package: every process has the same rules."""

import difflib
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from services.scheduler.recurrence.errors import InvalidSchedule

_LONGEST = 100


@cache
def _list_names() -> frozenset[str]:
    return frozenset(files("tzdata").joinpath("zones").read_text().split()) - {"Factory"}


@cache
def _load(name: str) -> ZoneInfo:
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def load_zone(name: object) -> ZoneInfo:
    """The zone of this name. Raises InvalidSchedule for a name that is in no list, a path among them."""
    if isinstance(name, str) and name in _list_names():
        return _load(name)
    raise InvalidSchedule([("timezone", f"must be an IANA time zone such as Europe/Berlin{_suggest(name)}")])


def is_zone(name: object) -> bool:
    """Whether there is a zone of this name."""
    return isinstance(name, str) and name in _list_names()


def _suggest(name: object) -> str:
    if not isinstance(name, str) or len(name) > _LONGEST:
        return ""
    by_lower = {each.lower(): each for each in _list_names()}
    near = difflib.get_close_matches(name.strip().lower(), by_lower, n=1, cutoff=0.8)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""
