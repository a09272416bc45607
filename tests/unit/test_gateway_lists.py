"""Which list a query means, which spans a count has, and what is refused."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.answers import StatsCounts
from services.gateway.lists import ListFilter, MailList, choose_list
from services.gateway.tables import tallies
from services.gateway.tallies import MINUTES_KEPT, POINT_LIMIT, Resolution, choose_range
from shared.addresses import fold_domain
from shared.problems import Problem
from shared.states import MailStatus

NOW = datetime(2026, 11, 28, 16, 41, 7, tzinfo=UTC)
ID = UUID("0190d1f0-1111-7222-8333-444455556666")


def choose(
    filters: dict[str, str] | None = None, since: datetime | None = None, until: datetime | None = None
) -> MailList:
    given = filters or {}
    return choose_list("default", {each: given.get(each.value) for each in ListFilter}, since, until)


def test_one_filter_or_none_is_a_list() -> None:
    assert (choose().kind, choose().value) == (None, "")
    for each in ListFilter:
        chosen = choose({each.value: "x"})
        assert (chosen.kind, chosen.value) == (each, "x")


def test_two_filters_are_refused_and_both_named() -> None:
    with pytest.raises(Problem) as caught:
        choose({"status": "sent", "tag": "june"})
    assert (caught.value.status, caught.value.slug) == (422, "one-filter-only")
    assert [each["pointer"] for each in caught.value.errors] == ["/query/status", "/query/tag"]
    assert "status and tag were given" in caught.value.detail


@pytest.mark.parametrize("until", [NOW, NOW - timedelta(microseconds=1)])
def test_a_range_without_any_time_is_refused(until: datetime) -> None:
    with pytest.raises(Problem):
        choose(None, NOW, until)


def test_the_first_page_comes_after_no_mail_of_the_end_itself() -> None:
    assert choose(until=NOW).start == (NOW, UUID(int=0))


def test_a_cursor_is_good_for_its_own_list_only() -> None:
    mine = choose({"tag": "june"}, until=NOW)
    assert mine.read_cursor(mine.write_cursor(NOW, ID)) == (NOW, ID)
    near = [choose({"tag": "may"}, until=NOW), choose({"batch_id": "june"}, until=NOW), choose(until=NOW)]
    for other in [*near, choose({"tag": "june"})]:
        with pytest.raises(Problem, match="see errors"):
            other.read_cursor(mine.write_cursor(NOW, ID))


def test_without_a_range_the_last_spans_are_meant_the_running_one_included() -> None:
    for resolution, points in ((Resolution.MINUTE, 60), (Resolution.HOUR, 24), (Resolution.DAY, 30)):
        spans = choose_range(None, None, resolution, NOW)
        starts = list(spans.list_starts())
        assert (len(starts), starts[0]) == (points, spans.since)
        assert starts[-1] <= NOW < spans.until == starts[-1] + resolution.step


@given(
    since=st.datetimes(datetime(2026, 11, 22), datetime(2026, 11, 28), timezones=st.just(UTC)),
    length=st.timedeltas(timedelta(microseconds=1), timedelta(hours=20)),
    resolution=st.sampled_from(Resolution),
)
def test_spans_are_whole_and_cover_the_range(since: datetime, length: timedelta, resolution: Resolution) -> None:
    spans = choose_range(since, since + length, resolution, NOW)
    starts = list(spans.list_starts())
    assert starts[0] <= since < starts[0] + resolution.step
    assert starts[-1] < since + length <= spans.until
    assert all(each.second == each.microsecond == 0 for each in starts)


def test_a_range_of_whole_spans_is_left_as_it_is() -> None:
    midnight = NOW.replace(hour=0, minute=0, second=0)
    spans = choose_range(midnight - timedelta(days=3), midnight, Resolution.DAY, NOW)
    assert (spans.since, spans.until) == (midnight - timedelta(days=3), midnight)


@pytest.mark.parametrize(
    ("since", "resolution", "said"),
    [
        (NOW - timedelta(days=365 * 5), Resolution.DAY, "ask for a shorter one"),
        (NOW - timedelta(hours=POINT_LIMIT + 1), Resolution.HOUR, "longer spans"),
        (NOW - timedelta(minutes=POINT_LIMIT + 1), Resolution.MINUTE, "longer spans"),
        (NOW - MINUTES_KEPT - timedelta(minutes=2), Resolution.MINUTE, "resolution=hour"),
    ],
)
def test_what_is_too_long_or_no_longer_kept_says_what_to_do(since: datetime, resolution: Resolution, said: str) -> None:
    with pytest.raises(Problem) as caught:
        choose_range(since, NOW, resolution, NOW)
    (error,) = caught.value.errors
    assert said in error["detail"]
    assert error["pointer"] == "/query/from"


@pytest.mark.parametrize("moment", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
@pytest.mark.parametrize("resolution", Resolution)
def test_the_ends_of_the_calendar_are_refused(moment: datetime, resolution: Resolution) -> None:
    for since, until in ((moment, None), (None, moment)):
        with pytest.raises(Problem):
            choose_range(since, until, resolution, NOW)


def test_every_status_is_counted() -> None:
    statuses = {status.value for status in MailStatus}
    assert statuses <= set(tallies.columns.keys())
    assert statuses | {"accepted"} == set(StatsCounts.model_fields)


@pytest.mark.parametrize(
    ("address", "folded"),
    [("Ann@Example.ORG", "Ann@example.org"), ('"a@B"@X.org', '"a@B"@x.org'), ("ann@x.org", "ann@x.org")],
)
def test_only_the_domain_is_folded(address: str, folded: str) -> None:
    assert fold_domain(address) == folded
