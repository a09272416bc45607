"""Daily hours on the recipient's clock, held against an oracle that reads the clock minute by minute."""

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.scheduler.mailings.hours import Hours, Window
from services.scheduler.recurrence.zones import load_zone

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
# Whole hours from -11 to +14, halves and quarters; a change at midnight, by half an hour, and a day that never was.
ZONES = (
    *("Pacific/Pago_Pago", "Pacific/Honolulu", "Pacific/Marquesas", "America/Anchorage", "America/Los_Angeles"),
    *("America/Denver", "America/Chicago", "America/New_York", "America/Halifax", "America/St_Johns"),
    *("America/Sao_Paulo", "America/Havana", "Atlantic/South_Georgia", "Atlantic/Azores", "Europe/London"),
    *("Europe/Berlin", "Africa/Cairo", "Asia/Beirut", "Europe/Moscow", "Asia/Tehran", "Asia/Dubai", "Asia/Kabul"),
    *("Asia/Karachi", "Asia/Kathmandu", "Asia/Dhaka", "Asia/Yangon", "Asia/Bangkok", "Asia/Shanghai", "Asia/Tokyo"),
    *("Australia/Adelaide", "Australia/Sydney", "Australia/Lord_Howe", "Pacific/Noumea", "Pacific/Auckland"),
    *("Pacific/Chatham", "Pacific/Tongatapu", "Pacific/Kiritimati", "Pacific/Apia", "Africa/Casablanca"),
)
OFFICE = Hours(time(9), time(18), "Europe/Berlin")


@cache
def read_clock(zone: str, day: date) -> list[tuple[datetime, datetime]]:
    """Every minute of the two days before a day and the four after it: the instant, and what the clocks show."""
    noon = datetime.combine(day, time(12), UTC)
    instants = (noon + MINUTE * number for number in range(-2 * 1440, 4 * 1440))
    return [(each, each.astimezone(load_zone(zone)).replace(tzinfo=None, fold=0)) for each in instants]


def reach(clock: list[tuple[datetime, datetime]], wall: datetime) -> datetime:
    """When the clocks show this time, or a later one, for the first time."""
    return next(instant for instant, shown in clock if shown >= wall)


def find_brutally(hours: Hours, zone: str, after: datetime) -> Window:
    clock = read_clock(zone, after.date())
    for number in range(-2, 3):  # west of Greenwich it may still be the day before, in hours that began before that
        day = after.date() + DAY * number
        last = day + (DAY if hours.end <= hours.start else timedelta(0))
        start, end = (reach(clock, datetime.combine(*each)) for each in ((day, hours.start), (last, hours.end)))
        if max(start, after) < end:
            return Window(max(start, after), end)
    raise AssertionError("a day has a window")


@cache
def list_changes(zone: str) -> list[date]:
    """The days of 2011 and 2026 on which a zone's offset changes."""
    loaded, days = load_zone(zone), []
    for year in (2011, 2026):
        noons = [datetime(year, 1, 1, 12, tzinfo=UTC) + DAY * number for number in range(365)]
        days += [b.date() for a, b in pairwise(noons) if offset(a, loaded) != offset(b, loaded)]
    return days


def offset(instant: datetime, zone: ZoneInfo) -> timedelta | None:
    return instant.astimezone(zone).utcoffset()


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, datetime]:
    zone = draw(st.sampled_from(ZONES))
    day = draw(st.sampled_from([*list_changes(zone), date(2026, 7, 1)]))
    return zone, datetime.combine(day, time(12), UTC) + MINUTE * draw(st.integers(-1440, 1440))


clocks = st.integers(0, 1439).map(lambda minute: time(minute // 60, minute % 60))
daily = st.tuples(clocks, clocks).filter(lambda each: each[0] != each[1])


@example(("Europe/Berlin", datetime(2026, 3, 29, 0, 50, tzinfo=UTC)), (time(2, 10), time(2, 50)))
@example(("Europe/Berlin", datetime(2026, 10, 25, 0, 45, tzinfo=UTC)), (time(2), time(2, 30)))
@example(("Pacific/Apia", datetime(2011, 12, 30, 9, tzinfo=UTC)), (time(9), time(18)))
@example(("Pacific/Apia", datetime(2011, 12, 30, 9, tzinfo=UTC)), (time(22), time(6)))
@example(("America/St_Johns", datetime(2011, 11, 6, 3, tzinfo=UTC)), (time(0), time(0, 30)))
@example(("Pacific/Pago_Pago", datetime(2026, 7, 1, 1, 23, tzinfo=UTC)), (time(14, 25), time(14, 24)))
@given(moments(), daily)
def test_a_window_is_what_the_clock_on_the_wall_says_in_every_zone_and_when_clocks_change(
    moment: tuple[str, datetime], wanted: tuple[time, time]
) -> None:
    zone, after = moment
    hours = Hours(*wanted)
    assert hours.next_window(after, zone) == find_brutally(hours, zone, after)


def test_on_an_ordinary_day_every_zone_has_its_own_nine_o_clock() -> None:
    after = datetime(2026, 7, 1, tzinfo=UTC)
    for zone in ZONES:
        window = OFFICE.next_window(after + DAY, zone)
        assert window
        assert window.end.astimezone(load_zone(zone)).time() == time(18), zone
        assert window.start == after + DAY or window.start.astimezone(load_zone(zone)).time() == time(9), zone


@pytest.mark.parametrize("zone", [None, "", "Mars/Olympus", "Europe/Berlin"])
def test_who_has_no_zone_that_is_known_is_reached_in_that_of_the_mailing(zone: str | None) -> None:
    window = OFFICE.next_window(datetime(2026, 7, 1, 20, tzinfo=UTC), zone)
    assert window == (datetime(2026, 7, 2, 7, tzinfo=UTC), datetime(2026, 7, 2, 16, tzinfo=UTC))


def test_inside_a_window_it_begins_at_once_and_its_first_late_minute_is_outside() -> None:
    inside, end = datetime(2026, 7, 1, 10, 0, 7, tzinfo=UTC), datetime(2026, 7, 1, 16, tzinfo=UTC)
    assert OFFICE.next_window(inside) == (inside, end)
    assert OFFICE.next_window(end) == (end + timedelta(hours=15), end + DAY)


def test_where_the_calendar_ends_there_is_no_window() -> None:
    assert OFFICE.next_window(datetime(9999, 12, 31, 20, tzinfo=UTC)) is None
