"""Due times on the days when the clocks change: named cases, and an oracle that looks at every minute."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.scheduler.recurrence import Schedule
from tests.support.due_oracle import LINES, NIGHTLY, Line, compare, find_change, list_changes

ZONES = (
    *("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "America/Sao_Paulo"),
    *("Africa/Cairo", "America/St_Johns", "America/Havana", "America/Asuncion", "Antarctica/Troll", "Asia/Kathmandu"),
    *("Atlantic/Azores", "Asia/Tehran", "Asia/Gaza", "Europe/Dublin", "Pacific/Chatham", "Pacific/Apia", "UTC"),
)


def show_due(cron: str, zone: str, since: str, count: int) -> list[str]:
    """The next due times as the zone's clocks show them, `since` being such a time as well."""
    schedule = Schedule.build(cron=cron, timezone=zone)
    after = datetime.fromisoformat(since).replace(tzinfo=schedule.zone).astimezone(UTC)
    return [f"{due.astimezone(schedule.zone):%m-%d %H:%M %z}" for due in schedule.upcoming(after, count)]


@pytest.mark.parametrize(
    ("cron", "zone", "since", "due"),
    [
        # Europe/Berlin: 02:00 becomes 03:00 on 29 March, 03:00 becomes 02:00 on 25 October 2026.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-30 02:30 +0200"]),
        ("0,30 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-29 03:30 +0200"]),
        ("* 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-30 02:00 +0200"]),
        ("0 */2 * * *", "Europe/Berlin", "2026-03-29T00:00", ["03-29 03:00 +0200", "03-29 04:00 +0200"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
        ("59 2,3 * * *", "Europe/Berlin", "2026-10-25T00:00", ["10-25 02:59 +0200", "10-25 03:59 +0100"]),
        ("30 * * * *", "Europe/Berlin", "2026-03-29T01:00", ["03-29 01:30 +0100", "03-29 03:30 +0200"]),
        ("30 0-23 * * *", "Europe/Berlin", "2026-10-25T02:00", ["10-25 02:30 +0200", "10-25 02:30 +0100"]),
        ("* * * * *", "Europe/Berlin", "2026-10-25T02:58", ["10-25 02:59 +0200", "10-25 02:00 +0100"]),
        ("*/20 * * * *", "Europe/Berlin", "2026-03-29T01:30", ["03-29 01:40 +0100", "03-29 03:00 +0200"]),
        # America/New_York: 8 March and 1 November 2026.
        ("30 2 * * *", "America/New_York", "2026-03-07T12:00", ["03-08 03:00 -0400", "03-09 02:30 -0400"]),
        ("15 1 * * *", "America/New_York", "2026-10-31T12:00", ["11-01 01:15 -0400", "11-02 01:15 -0500"]),
        ("0 12 * * sun", "America/New_York", "2026-03-02T00:00", ["03-08 12:00 -0400", "03-15 12:00 -0400"]),
        # Australia/Lord_Howe changes by half an hour: on 4 October at 02:00, back on 5 April 2026 at 02:00.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["10-04 02:30 +1100", "10-05 02:15 +1100"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-05T00:00", ["04-05 01:45 +1100", "04-06 01:45 +1030"]),
        ("35 * * * *", "Australia/Lord_Howe", "2026-04-05T01:40", ["04-05 01:35 +1030", "04-05 02:35 +1030"]),
        ("15 * * * *", "Australia/Lord_Howe", "2026-10-04T01:00", ["10-04 01:15 +1030", "10-04 03:15 +1100"]),
        # Africa/Casablanca goes back for Ramadan: on 15 February at 03:00, ahead again on 22 March 2026 at 02:00.
        ("30 2 * * *", "Africa/Casablanca", "2026-02-14T12:00", ["02-15 02:30 +0100", "02-16 02:30 +0000"]),
        ("30 2 * * *", "Africa/Casablanca", "2026-03-21T12:00", ["03-22 03:00 +0100", "03-23 02:30 +0100"]),
        # Midnight itself was left out in Brazil; it came twice in Newfoundland, where day 1 then began twice.
        ("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00", ["11-04 01:00 -0200", "11-05 00:00 -0200"]),
        ("0 0 * * *", "America/St_Johns", "2009-10-31T12:00", ["11-01 00:00 -0230", "11-02 00:00 -0330"]),
        ("0 * 1 * *", "America/St_Johns", "2009-10-31T23:30", ["11-01 00:00 -0230", "11-01 00:00 -0330"]),
        # Samoa had no 30 December 2011.
        ("0 12 30 12 *", "Pacific/Apia", "2011-12-29T12:00", ["12-31 00:00 +1400", "12-30 12:00 +1400"]),
        ("0 12 * * *", "Pacific/Apia", "2011-12-28T12:00", ["12-29 12:00 -1000", "12-31 00:00 +1400"]),
        ("0 * * * *", "Pacific/Apia", "2011-12-29T22:30", ["12-29 23:00 -1000", "12-31 00:00 +1400"]),
    ],
)
def test_a_time_that_does_not_exist_or_occurs_twice_is_due_once(
    cron: str, zone: str, since: str, due: list[str]
) -> None:
    assert show_due(cron, zone, since, len(due)) == due


@given(LINES, st.sampled_from(ZONES), st.integers(1975, 2060), st.integers(0), st.integers(0, 1440))
@settings(max_examples=40)
def test_due_times_are_those_found_by_looking_at_every_minute(
    line: Line, zone: str, year: int, which: int, minutes: int
) -> None:
    days = list_changes(zone, year) or [datetime(year, which % 12 + 1, which % 28 + 1, tzinfo=UTC)]
    after = days[which % len(days)] + timedelta(minutes=minutes, seconds=which % 60)
    compare(line, zone, after, timedelta(hours=26), most=100)


# Of lines and moments drawn at large few meet a change at all: forty of them let most mistakes about it pass.
@given(NIGHTLY, st.sampled_from(ZONES), st.integers(1995, 2036), st.integers(0), st.integers(-240, 45))
@settings(max_examples=80)
def test_so_they_are_right_around_a_change_of_the_clock(
    line: Line, zone: str, year: int, which: int, minutes: int
) -> None:
    days = list_changes(zone, year)
    assume(days)
    after = find_change(zone, days[which % len(days)]) + timedelta(minutes=minutes, seconds=which % 60)
    compare(line, zone, after, timedelta(hours=26), most=300)
