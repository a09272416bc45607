"""What a user may write for a schedule, what it becomes, and what he is told where it cannot be."""

import json
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from cronsim import CronSim
from hypothesis import example, given
from hypothesis import strategies as st

from services.scheduler.recurrence import InvalidSchedule, RecurringDetails, RecurringInterval, Schedule
from services.scheduler.recurrence.fields import DAY_OF_WEEK, FIELDS, MINUTE, MONTH_OF_YEAR

NOW = datetime(2026, 1, 15, 10, 30, 20, tzinfo=UTC)
PIECES = st.text("0123456789*/-,#LWsunmofrija?@ ", max_size=12) | st.sampled_from(["*", "1L", "*/20", "31", "2", "1#5"])


def refuse(**given: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidSchedule) as refused:
        Schedule.build(**given)
    return refused.value.errors


def name_fields(**given: Any) -> list[str]:
    return [field for field, _ in refuse(**given)]


def due(schedule: Schedule, count: int = 5, after: datetime = NOW) -> list[str]:
    return [f"{each:%Y-%m-%dT%H:%M}" for each in schedule.upcoming(after, count)]


def test_the_one_off_payload_is_due_once_on_the_next_monday_that_is_a_2nd_4th_5th_or_8th() -> None:
    fields = '{"day_of_month": "2,4,5,8", "day_of_week": "1", "month_of_year": "*", "minute": "*", "hour": "*"}'
    schedule = Schedule.build("ONE_OFF", fields)
    assert schedule.one_off
    assert due(schedule) == ["2026-02-02T00:00"]
    described = schedule.describe()
    assert (described["cron"], described["timezone"], described["day_fields"]) == ("* * 2,4,5,8 * 1", "UTC", "both")


def test_the_quarterly_payload_is_due_in_the_months_it_names_at_midnight() -> None:
    fields = {"month_of_year": "2,4,5,8", "day_of_week": "*", "day_of_month": "1", "minute": "*", "hour": "*"}
    schedule = Schedule.build("EVERY_QUARTER", fields)
    assert not schedule.one_off
    assert due(schedule) == [
        f"{day}T00:00" for day in ("2026-02-01", "2026-04-01", "2026-05-01", "2026-08-01", "2027-02-01")
    ]
    assert schedule.describe() == {
        "cron": "0 0 1 2,4,5,8 *",
        "timezone": "UTC",
        "day_fields": None,
        "text": "At 00:00 on the first day of February, April, May, and August",
    }


@pytest.mark.parametrize(
    ("interval", "details", "cron"),
    [
        ("ONE_OFF", {}, "* * * * *"),
        ("EVERY_MINUTE", {}, "* * * * *"),
        ("EVERY_HOUR", {}, "0 * * * *"),
        ("EVERY_HOUR", {"minute": "*/20"}, "*/20 * * * *"),
        ("EVERY_DAY", {"minute": "*"}, "0 0 * * *"),
        ("EVERY_DAY", {"hour": 8, "minute": "30"}, "30 8 * * *"),
        ("EVERY_DAY", {"hour": "0-23"}, "0 0-23 * * *"),
        ("EVERY_WEEK", {}, "0 0 * * 1"),
        ("EVERY_WEEK", {"day_of_week": "fri-mon"}, "0 0 * * 0,1,5,6"),
        ("EVERY_WEEK", {"day_of_week": 7}, "0 0 * * 7"),
        ("EVERY_MONTH", {"hour": [6, 18]}, "0 6,18 1 * *"),
        ("EVERY_MONTH", {"day_of_month": "15", "day_of_week": "Monday"}, "0 0 15 * 1"),
        ("EVERY_QUARTER", {}, "0 0 1 1,4,7,10 *"),
        ("EVERY_YEAR", {"hour": None}, "0 0 1 1 *"),
        ("EVERY_YEAR", {"month_of_year": "jan,Jul", "minute": "0-0/5"}, "0 0 1 1,7 *"),
    ],
)
def test_defaults_fill_what_is_left_open_and_explicit_values_win(interval: str, details: Any, cron: str) -> None:
    assert Schedule.build(interval, details).describe()["cron"] == cron


REFUSED = {
    "EVERY_MINUTE": ["minute", "hour", "day_of_month", "month_of_year", "day_of_week"],
    "EVERY_HOUR": ["hour", "day_of_month", "month_of_year", "day_of_week"],
    "EVERY_DAY": ["day_of_month", "month_of_year", "day_of_week"],
    "EVERY_WEEK": ["day_of_month", "month_of_year"],
    "EVERY_MONTH": ["month_of_year"],
}


@pytest.mark.parametrize("interval", list(RecurringInterval))
def test_an_interval_refuses_the_fields_that_are_not_its_own_and_says_what_to_take(interval: str) -> None:
    for field in FIELDS:
        details = {field.name: "1"}
        if field.name in REFUSED.get(interval, ()):
            [(name, detail)] = refuse(recurring_interval=interval, recurring_details=details)
            assert name == f"recurring_details/{field.name}"
            assert detail.startswith(f'must be "*" with {interval}; to set it, take EVERY_')
        else:
            Schedule.build(interval, details)


def test_both_day_fields_must_match_in_details_and_either_in_a_cron_line() -> None:
    details = Schedule.build("EVERY_MONTH", {"day_of_month": "2,4", "day_of_week": "1"})
    line = Schedule.build(cron="0 0 2,4 * 1")
    assert details.describe()["cron"] == line.describe()["cron"]
    assert (details.describe()["day_fields"], line.describe()["day_fields"]) == ("both", "either")
    assert due(details, 2) == ["2026-02-02T00:00", "2026-03-02T00:00"]
    assert due(line, 3) == ["2026-01-19T00:00", "2026-01-26T00:00", "2026-02-02T00:00"]
    # Cron's own exception: a field that begins with a star narrows the other.
    assert Schedule.build(cron="0 0 */2 * 1").describe()["day_fields"] == "both"


@pytest.mark.parametrize(
    ("field", "text", "numbers"),
    [
        (MINUTE, "5/20", {5, 25, 45}),
        (MINUTE, "50-10/10", {50, 0, 10}),
        (MINUTE, " 1 , 2 ", {1, 2}),
        (DAY_OF_WEEK, "0", {0}),
        (DAY_OF_WEEK, "7", {0}),
        (DAY_OF_WEEK, "5-7", {5, 6, 0}),
        (DAY_OF_WEEK, "7-2", {0, 1, 2}),
        (DAY_OF_WEEK, "sat-sun,WED", {6, 0, 3}),
        (MONTH_OF_YEAR, "nov-feb", {11, 12, 1, 2}),
        (MONTH_OF_YEAR, "*/5", {1, 6, 11}),
    ],
)
def test_a_field_means_what_celery_means(field: Any, text: str, numbers: set[int]) -> None:
    assert field.parse(text) == numbers


@given(st.sampled_from(FIELDS), st.text("0123456789*/-,sunmofrija ", max_size=10))
@example(DAY_OF_WEEK, "1-1/2")
@example(MINUTE, "7/10")
def test_what_a_field_is_spelled_as_means_the_same_to_cronsim(field: Any, text: str) -> None:
    try:
        numbers = field.parse(text)
    except ValueError:
        return
    texts = [field.spell(text) if each is field else "*" for each in FIELDS]
    read = CronSim(" ".join(texts), datetime(2026, 1, 1))
    found = (read.minutes, read.hours, read.days, read.months, read.weekdays)[FIELDS.index(field)]
    assert {0 if field is DAY_OF_WEEK and number == 7 else number for number in found} == numbers


def test_everything_that_is_wrong_is_said_at_once() -> None:
    details = {"minute": "60", "hour": True, "day_of_week": "mun", "second": "0"}
    assert name_fields(recurring_interval="EVERY_BLUE_MOON", recurring_details=details, timezone="europe/berlin") == [
        "timezone",
        "recurring_interval",
        "recurring_details/second",
        "recurring_details/minute",
        "recurring_details/hour",
        "recurring_details/day_of_week",
    ]


@pytest.mark.parametrize("text", ['{"minute": 5', "[]", "5", '"x"', "[" * 3000, "1" * 5000, "NaN"])
def test_details_that_are_no_object_are_refused(text: str) -> None:
    assert name_fields(recurring_interval="EVERY_HOUR", recurring_details=text) == ["recurring_details"]


@pytest.mark.parametrize("text", ["-1", "1-", "-"])
def test_a_number_that_is_no_range_is_named_as_it_was_written(text: str) -> None:
    [(_, detail)] = refuse(recurring_interval="EVERY_HOUR", recurring_details={"minute": text})
    assert detail == f"{text!r} is not from 0 to 59"


@pytest.mark.parametrize(
    ("day", "spelled"), [(3, "third"), (12, "12th"), (13, "13th"), (21, "21st"), (22, "22nd"), (31, "31st")]
)
def test_a_schedule_is_told_in_words_that_are_spelled_right(day: int, spelled: str) -> None:
    told = Schedule.build("EVERY_MONTH", {"day_of_month": day}).describe()["text"]
    assert told == f"At 00:00 on the {spelled} day of every month"


def test_details_are_answered_as_they_were_given() -> None:
    details = RecurringDetails.read('{"day_of_month": "2,4,5,8", "minute": 5}').to_dict()
    assert details == {
        "minute": "5", "hour": "*", "day_of_month": "2,4,5,8", "month_of_year": "*", "day_of_week": "*",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cron", "explanation"),
    [
        ("61 * * * *", "minute '61' cannot be read"),
        ("0 0 * * mun", "day-of-week 'mun' cannot be read"),
        ("0 0 * 13 *", "month '13' cannot be read: it takes numbers from 1 to 12"),
        ("* * * *", "must have five fields"),
        ("0 * * * * *", "must have five fields"),
        ("@reboot", "must have five fields"),
        ("0 0 31 2 *", "can never fall due"),
        ("0 0 30-31 feb *", "can never fall due"),
        ("0 0 */20 * 1L", "can never fall due"),
        ("* * * * ſun", "in ASCII"),
        (5, "must be a text"),
        ("*" * 501, "at most 500"),
    ],
)
def test_a_cron_line_that_cannot_be_is_explained(cron: Any, explanation: str) -> None:
    [(field, detail)] = refuse(cron=cron)
    assert field == "cron"
    assert explanation in detail


def test_details_that_never_fall_due_are_refused() -> None:
    details = {"day_of_month": 30, "month_of_year": 2, "day_of_week": "1"}
    [(field, detail)] = refuse(recurring_interval="ONE_OFF", recurring_details=details)
    assert field == "recurring_details"
    assert "can never fall due" in detail


@pytest.mark.parametrize(
    "name",
    ["", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe", "europe/berlin", "UTC\0", "Factory", 5, None],
)
def test_a_zone_is_one_of_the_list_and_never_a_path(name: Any) -> None:
    assert name_fields(cron="@daily", timezone=name) == ["timezone"]


def test_a_zone_that_is_nearly_one_is_suggested() -> None:
    assert "did you mean Europe/Berlin?" in refuse(cron="@daily", timezone="Europe/Berln")[0][1]


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({}, ["recurring_interval"]),
        ({"recurring_details": {"minute": 5}}, ["recurring_interval"]),
        ({"cron": "@daily", "recurring_interval": "EVERY_DAY"}, ["recurring_interval"]),
        ({"cron": "@daily", "recurring_details": {"hour": 1}}, ["recurring_details"]),
        ({"cron": "@daily", "run_at": NOW}, ["run_at"]),
        ({"run_at": NOW, "recurring_interval": "EVERY_DAY"}, ["recurring_interval"]),
        ({"run_at": NOW, "end_at": NOW - timedelta(hours=1)}, ["run_at"]),
        (
            {
                "run_at": datetime.max.replace(tzinfo=UTC) - timedelta(hours=1),
                "timezone": "UTC",
                "start_at": datetime.min,
            },
            ["start_at"],
        ),
        ({"cron": "@daily", "start_at": NOW, "end_at": NOW - timedelta(days=1)}, ["end_at"]),
        ({"cron": "0 0 1 6 *", "start_at": NOW, "end_at": NOW + timedelta(days=20)}, ["end_at"]),
        ({"cron": "@daily", "end_at": datetime.max, "timezone": "America/New_York"}, ["end_at"]),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], fields: list[str]) -> None:
    assert name_fields(**given) == fields


def test_one_off_goes_with_a_cron_line_and_with_run_at() -> None:
    assert due(Schedule.build("ONE_OFF", cron="0 8 * * *")) == ["2026-01-16T08:00"]
    assert due(Schedule.build("ONE_OFF", run_at=NOW + timedelta(hours=1))) == ["2026-01-15T11:30"]


def test_run_at_is_due_once_and_by_the_clocks_of_its_zone() -> None:
    schedule = Schedule.build(run_at=datetime(2026, 3, 29, 2, 30), timezone="Europe/Berlin")
    assert schedule.one_off
    assert due(schedule) == ["2026-03-29T01:00"]  # 02:30 is left out that day: 03:00
    assert schedule.next_after(datetime(2026, 3, 29, 1, 0, tzinfo=UTC)) is None
    assert schedule.describe() == {"run_at": "2026-03-29T01:00:00+00:00", "timezone": "Europe/Berlin"}


def test_nothing_is_due_before_start_at_or_after_end_at_and_both_are_included() -> None:
    start, end = datetime(2026, 2, 1, 8), datetime(2026, 2, 3, 8)
    schedule = Schedule.build(cron="0 8 * * *", start_at=start, end_at=end)
    assert due(schedule) == ["2026-02-01T08:00", "2026-02-02T08:00", "2026-02-03T08:00"]
    assert schedule.next_after(datetime.max.replace(tzinfo=UTC)) is None


def test_the_end_of_the_calendar_ends_a_schedule() -> None:
    schedule = Schedule.build(cron="0 0 29 2 *", timezone="Pacific/Kiritimati")
    assert schedule.next_after(datetime(9999, 6, 1, tzinfo=UTC)) is None


def test_an_instant_without_an_offset_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="offset"):
        Schedule.build(cron="@daily").next_after(datetime(2026, 1, 1))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), st.lists, max_leaves=5
)
NAMES = st.sampled_from([field.name for field in FIELDS]) | st.text(max_size=5)


@given(st.sampled_from(RecurringInterval), st.dictionaries(NAMES, VALUES, max_size=4) | VALUES, st.booleans())
@example("ONE_OFF", {"\ud800": 1}, True)
def test_whatever_stands_in_details_is_read_or_refused_in_words(interval: str, details: Any, as_text: bool) -> None:
    try:
        given = json.dumps(details) if as_text else details
        schedule = Schedule.build(interval, given)
    except InvalidSchedule as exc:
        assert exc.errors
        if as_text:
            orjson.dumps(exc.errors)  # an answer can hold it
    else:
        assert schedule.upcoming(NOW, 1)


@given(st.lists(PIECES, min_size=5, max_size=5), st.sampled_from(["UTC", "Europe/Berlin"]))
@example(["0", "0", "*/20", "*", "1L"], "UTC")
@example(["0", "0", "29", "2", "1#5"], "Europe/Berlin")
@example(["0", "0", "*/29", "2", "1#5"], "Europe/Berlin")
@example(["0", "*", "*/31", "*", "1#5"], "Europe/Berlin")
def test_whatever_is_written_is_read_or_refused_in_no_time(pieces: list[str], zone: str) -> None:
    begun = time.process_time()
    with suppress(InvalidSchedule):
        schedule = Schedule.build(cron=" ".join(pieces), timezone=zone)
        schedule.next_after(NOW)
        schedule.describe()
    assert time.process_time() - begun < 0.1  # some 5 ms at worst
