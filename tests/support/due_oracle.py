"""When a cron line falls due, found by looking at every minute; `list_due` shares nothing with what it is compared to.

The lines are drawn, each field as a text together with the numbers it means, so that nothing has to be parsed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from itertools import islice
from zoneinfo import ZoneInfo

from hypothesis import assume
from hypothesis import strategies as st

from services.scheduler.recurrence import InvalidSchedule, Schedule

MINUTE = timedelta(minutes=1)
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
Field = tuple[str, frozenset[int]]


@dataclass(frozen=True)
class Line:
    """Five fields, in the order of a cron line. `both`: both day fields must match, as Celery has it."""

    fields: tuple[Field, ...]
    both: bool

    @property
    def text(self) -> str:
        return " ".join(text for text, _ in self.fields)

    def matches(self, wall: datetime) -> bool:
        (_, minutes), (_, hours), (dom, days), (_, months), (dow, weekdays) = self.fields
        if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
            return False
        by_month, by_week = wall.day in days, wall.isoweekday() % 7 in weekdays
        if self.both or dom.startswith("*") or dow.startswith("*"):
            return by_month and by_week
        return by_month or by_week

    @property
    def every_hour(self) -> bool:
        return len(self.fields[1][1]) == 24


def list_due(line: Line, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    """Every minute from `after` (excluded) to `until` in which the line falls due."""
    minute = after.replace(second=0, microsecond=0) - timedelta(hours=25)
    seen: set[datetime] = set()
    before = _look(minute - MINUTE, zone)
    while minute <= until:
        wall = _look(minute, zone)
        if minute > after and _is_due(line, wall, before, seen):
            yield minute
        seen.add(wall)
        before, minute = wall, minute + MINUTE


def _is_due(line: Line, wall: datetime, before: datetime, seen: set[datetime]) -> bool:
    if line.every_hour:
        return line.matches(wall)
    if line.matches(wall) and wall not in seen:
        return True
    skipped = before + MINUTE
    while skipped < wall:
        if line.matches(skipped):
            return True
        skipped += MINUTE
    return False


def _look(minute: datetime, zone: ZoneInfo) -> datetime:
    return minute.astimezone(zone).replace(tzinfo=None, fold=0)


@cache
def read_zone(name: str) -> ZoneInfo:
    """From the package, for a system's own zones may be older."""
    with files("tzdata").joinpath(f"zoneinfo/{name}").open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@cache
def list_changes(name: str, year: int) -> list[datetime]:
    """The beginnings of the days of a year in which a zone's offset changes."""
    zone, first = read_zone(name), datetime(year, 1, 1, tzinfo=UTC)
    days = [first + timedelta(days=number) for number in range(365)]
    offsets = [each.astimezone(zone).utcoffset() for each in days]
    return [day for day, offset, later in zip(days, offsets, offsets[1:], strict=False) if offset != later]


def _draw_numbers(first: int, last: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[Field]:
    number = st.integers(first, last)

    def name(value: int) -> st.SearchStrategy[str]:
        return st.sampled_from([str(value), names[value - first]]) if names else st.just(str(value))

    one = number.flatmap(lambda value: name(value).map(lambda text: (text, frozenset([value]))))
    span = st.tuples(number, number, st.integers(1, 5)).map(lambda drawn: _make_range(*drawn))
    part = one | span
    return part | st.lists(part, min_size=2, max_size=3).map(
        lambda parts: (",".join(text for text, _ in parts), frozenset().union(*(numbers for _, numbers in parts)))
    )


def _make_range(one: int, other: int, step: int) -> Field:
    first, last = sorted((one, other))
    return f"{first}-{last}" + (f"/{step}" if step > 1 else ""), frozenset(range(first, last + 1, step))


def _draw_field(first: int, last: int, names: tuple[str, ...] = (), stars: int = 1) -> st.SearchStrategy[Field]:
    star = st.just(("*", frozenset(range(first, last + 1))))
    step = st.integers(2, 7).map(lambda by: (f"*/{by}", frozenset(range(first, last + 1, by))))
    return st.one_of(*[star] * stars, step, _draw_numbers(first, last, names))


LINES = st.builds(
    lambda *drawn: Line(drawn[:5], drawn[5]),
    _draw_field(0, 59),
    _draw_field(0, 23) | _draw_numbers(0, 4),
    _draw_field(1, 31, stars=6),
    _draw_field(1, 12, MONTHS, stars=8),
    _draw_field(0, 6, DAYS, stars=4),
    st.booleans(),
)


_EVERY_DAY: tuple[Field, ...] = (
    ("*", frozenset(range(1, 32))), ("*", frozenset(range(1, 13))), ("*", frozenset(range(7))),
)  # fmt: skip
NIGHTLY = st.builds(
    lambda minute, hour: Line((minute, hour, *_EVERY_DAY), both=False),
    _draw_field(0, 59),
    _draw_numbers(0, 3) | st.just(("*", frozenset(range(24)))),
)
"""Lines that are due in the hours in which clocks change, most of them in no other."""


def find_change(name: str, day: datetime) -> datetime:
    """The minute of the day that begins at `day` (UTC) in which a zone has another offset than before."""
    zone = read_zone(name)
    minutes = (day + MINUTE * number for number in range(1, 24 * 60 + 1))
    return next(each for each in minutes if each.astimezone(zone).utcoffset() != day.astimezone(zone).utcoffset())


def build(line: Line, zone: str) -> Schedule:
    """By the way that means what the line means: details where both day fields must match."""
    if not line.both:
        return Schedule.build(cron=line.text, timezone=zone)
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    ranges = ("0-59", "0-23", "1-31", "1-12", "*")
    texts = [full if text == "*" else text for (text, _), full in zip(line.fields, ranges, strict=True)]
    return Schedule.build("EVERY_YEAR", dict(zip(names, texts, strict=True)), timezone=zone)


def compare(line: Line, zone: str, after: datetime, length: timedelta, most: int) -> None:
    try:
        schedule = build(line, zone)
    except InvalidSchedule:
        assume(False)
    expected = list(islice(list_due(line, read_zone(zone), after, after + length), most))
    found = [due for due in schedule.upcoming(after, len(expected) + 1) if due <= after + length]
    assert found[:most] == expected, (line.text, zone, after)
