"""The comparison of tests/unit/test_scheduler_due_times.py, for much longer: every zone there is, and whole years."""

from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.due_oracle import LINES, Line, compare, list_changes

ZONES = sorted(set(files("tzdata").joinpath("zones").read_text().split()) - {"Factory"})
UNHURRIED = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.timeout(1800)
@given(LINES, st.sampled_from(ZONES), st.integers(1975, 2060), st.integers(0), st.integers(0, 1440))
@settings(UNHURRIED, max_examples=3000)
def test_around_every_change_of_every_clock(line: Line, zone: str, year: int, which: int, minutes: int) -> None:
    days = list_changes(zone, year) or [datetime(year, which % 12 + 1, which % 28 + 1, tzinfo=UTC)]
    after = days[which % len(days)] + timedelta(minutes=minutes, seconds=which % 60)
    compare(line, zone, after, timedelta(hours=30), most=200)


@pytest.mark.timeout(1800)
@given(LINES, st.sampled_from(ZONES), st.datetimes(datetime(1975, 1, 1), datetime(2060, 1, 1)))
@settings(UNHURRIED, max_examples=20)
def test_over_whole_years(line: Line, zone: str, after: datetime) -> None:
    compare(line, zone, after.replace(tzinfo=UTC), timedelta(days=400), most=20_000)
