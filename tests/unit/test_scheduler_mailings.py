"""What a mailing may say, what changes make of it, and what a check makes of its audience."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from services.scheduler.mailings.audience import Audience
from services.scheduler.mailings.audience_store import write_source
from services.scheduler.mailings.bodies import NewMailing
from services.scheduler.mailings.commands import describe_end
from services.scheduler.mailings.content import check_content, find_needs, render
from services.scheduler.mailings.control.control import refuse_retry
from services.scheduler.mailings.control.store import Spared
from services.scheduler.mailings.defining import change, define, to_fields
from services.scheduler.mailings.hours import Hours
from services.scheduler.mailings.mailing import Mailing, MailingDefinition, MailingState
from services.scheduler.mailings.trials.checking import Trial, count_shut_out, estimate_duration, list_warnings
from services.scheduler.mailings.trials.testing import compose_test
from services.scheduler.mailings.variables import fill_in
from shared.access import ApiKey
from shared.bodies import parse_model
from shared.events import new_email_id
from shared.problems import Problem
from tests.support.gateway import make_key
from tests.support.mailings import keep_mailing

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
KEY = make_key("*@example.com")
CONTENT = {"from": "news@example.com", "subject": "Hello {{ name }}", "text": "Your {{ plan }}"}
DAY_S = 24 * 60 * 60


def make(key: ApiKey = KEY, limit: int = 1_000_000, **fields: Any) -> MailingDefinition:
    body = {"name": "n", "content": CONTENT, "audience": {}, **fields}
    return define(parse_model(body, NewMailing), key, NOW, limit)


def make_mailing(state: MailingState = MailingState.DRAFT, **fields: Any) -> Mailing:
    return keep_mailing(make(**fields), NOW, id=new_email_id(), state=state)


def edit(before: MailingDefinition, **given: Any) -> MailingDefinition:
    return change(before, given, KEY, NOW, 1_000_000)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"audience": {"tags": {"any": ["a"], "none": ["b", "c"]}, "attributes": {"x": [1, None], "y": "z"}}},
        {"audience": {"list": "01a2b3c4-d5e6-7f80-9a1b-2c3d4e5f6071"}},
        {"hours": {"from": "22:00", "to": "06:30", "timezone": "Asia/Kolkata"}, "rate": 7, "unsubscribe": True},
        {"start_at": "2026-11-29T09:00:00+01:00", "finish_at": "2026-11-30T09:00:00Z"},
        {"content": {**CONTENT, "reply_to": ["a@x.org"], "headers": {"X-A": "b"}, "tags": ["t"], "html": "<p>"}},
    ],
)
def test_a_definition_comes_back_as_the_body_it_was_made_of(fields: dict[str, Any]) -> None:
    made = make(**fields)
    assert define(parse_model(to_fields(made), NewMailing), KEY, NOW, 1_000_000) == made
    assert edit(made) == made
    assert Audience.from_json(made.audience.to_json(), made.audience.list) == made.audience
    assert made.hours is None or Hours.from_json(made.hours.to_json()) == made.hours


@pytest.mark.parametrize(
    ("fields", "pointer", "said"),
    [
        ({"audience": {"list": None}}, "/audience/list", ""),
        ({"audience": {"tags": {"any": []}}}, "/audience/tags/any", "means nobody"),
        ({"audience": {"attributes": {"timezone": None}}}, "/audience/attributes", "timezone is a field of a contact"),
        ({"hours": {"from": "09:00", "to": "24:00"}}, "/hours/to", "from 00:00 to 23:59"),
        ({"name": " "}, "/name", "at least 1 character"),
        ({"content": {**CONTENT, "subject": ""}}, "/content/subject", "at least 1 character"),
    ],
)
def test_what_would_mean_everybody_by_mistake_or_nothing_is_refused_in_plain_words(
    fields: dict[str, Any], pointer: str, said: str
) -> None:
    with pytest.raises(Problem) as refused:
        make(**fields)
    [error] = refused.value.errors
    assert error["pointer"] == pointer
    assert said in error["detail"]


def test_only_where_it_can_be_tried_again_its_end_says_so() -> None:
    assert "retry" in describe_end(make_mailing(MailingState.FINISHED))
    assert "retry" not in describe_end(make_mailing(MailingState.CANCELLED))


def test_a_retry_of_nobody_counts_in_whole_sentences() -> None:
    problem = refuse_retry(Spared(unknown=0, too_large=0, gone=2))
    assert (problem.slug, problem.extra) == ("nothing-to-retry", {"unknown": 0, "too_large": 0, "gone": 2})
    assert "2 cannot get it: the recipient was erased" in problem.detail
    assert refuse_retry(Spared(0, 0, 0)).detail == "None of its mails failed."


def test_without_from_it_is_from_the_keys_only_sender() -> None:
    content = {"subject": "s", "text": "t"}
    assert make(make_key("a@example.com"), content=content).content["from"] == "a@example.com"
    with pytest.raises(Problem) as refused:
        make(content=content)
    assert [each["pointer"] for each in refused.value.errors] == ["/content/from"]


def test_a_content_that_leaves_no_room_in_an_event_is_too_large() -> None:
    with pytest.raises(Problem) as refused:
        make(limit=1000, content={**CONTENT, "text": "x" * 500})
    assert (refused.value.status, refused.value.extra) == (413, {"limit": 500})


def test_a_time_that_is_over_may_stay_what_it_was_and_is_looked_at_when_it_changes() -> None:
    made = make(start_at="2026-11-29T00:00:00Z", finish_at="2026-11-30T00:00:00Z")
    later = NOW + timedelta(days=5)
    assert change(made, {"name": "m"}, KEY, later, 1_000_000).name == "m"
    with pytest.raises(Problem) as refused:
        change(made, {"finish_at": "2026-11-30T00:00:01Z"}, KEY, later, 1_000_000)
    assert [each["pointer"] for each in refused.value.errors] == ["/finish_at"]


@pytest.mark.parametrize(
    ("source", "is_refused"),
    [
        ("{{ name|upper }} {{ address }}", False),
        ("{{ plan.price * 2 }}", True),
        ("{{ plan + 1 }}", False),  # may be right for everybody
        ("{{ name + 1 }}", True),  # is wrong for everybody
        ("{% for each in range(99999) %}{% endfor %}", True),
        ("{% for each in items %}{{ each }}{% endfor %}", False),
        ("{% if plan %}{{ 1|nope }}{% endif %}", True),
        ("{{ self }}", True),
    ],
)
def test_a_template_is_refused_where_it_is_wrong_for_everybody(source: str, is_refused: bool) -> None:
    assert bool(check_content({**CONTENT, "html": source})) is is_refused


def test_needs_are_what_a_recipient_must_have_beside_address_and_name() -> None:
    content = {
        **CONTENT,
        "subject": "{{ nick|default('you') }} {{ plan|default('') }}",
        "html": "{% if city is defined %}{{ city }}{% endif %}{{ address }}",
    }
    needs = find_needs(content)
    assert (set(needs.required), set(needs.optional)) == ({"plan"}, {"nick", "city"})


def test_attributes_never_take_the_place_of_address_and_name() -> None:
    assert fill_in("a@x.org", "Ann", {"name": "x", "address": "y", "b": 1}) == {
        "address": "a@x.org",
        "name": "Ann",
        "b": 1,
    }


def test_each_field_is_rendered_by_itself() -> None:
    rendered = render({**CONTENT, "html": "<p>{{ name }}</p>"}, {"name": "A<b"})
    assert (rendered.subject, rendered.text, rendered.html) == ("Hello A<b", None, "<p>A&lt;b</p>")
    assert [(each.field, each.variable) for each in rendered.errors] == [("text", ("plan",))]


@pytest.mark.parametrize(
    ("mails", "rate", "hours", "expected_s"),
    [
        (1000, None, None, None),
        (1000, 10, None, 100),
        (3600 * 9, 1, Hours(time(9), time(18)), DAY_S),
        (3600 * 10, 1, Hours(time(9), time(18)), DAY_S + 3600),
        (3600 * 3, 1, Hours(time(23), time(1)), DAY_S + 3600),
    ],
)
def test_the_duration_counts_the_days_windows(
    mails: int, rate: int | None, hours: Hours | None, expected_s: int | None
) -> None:
    expected = None if expected_s is None else timedelta(seconds=expected_s)
    assert estimate_duration(mails, rate, hours) == expected


def test_a_trial_remembers_each_fault_once_with_whom_it_met_first() -> None:
    trial = Trial(CONTENT)
    for number in range(3):
        trial.take({"address": f"{number}@x.org", "name": "n"})
    trial.take({"address": "a@x.org", "name": "n", "plan": "p"})
    [((field, _), fault)] = trial.faults.items()
    assert (trial.tried, trial.failed, field, fault.recipients, fault.example) == (4, 3, "text", 3, "0@x.org")


def test_warnings_say_what_need_not_be_wrong() -> None:
    def warn(definition: MailingDefinition, trial: Trial | None = None, lacking: int = 0) -> set[str]:
        found = list_warnings(definition, NOW, timedelta(hours=2), trial or Trial(CONTENT), lacking=lacking)
        return {code for code, _ in found}

    calm: dict[str, Any] = {
        "content": {**CONTENT, "text": "{{ plan }}: {{ unsubscribe_url }}"},
        "unsubscribe": True,
        "audience": {"tags": {"any": ["a"]}},
    }
    assert warn(make(**calm)) == set()
    assert warn(make(**calm | {"content": CONTENT})) == {"no-link-in-text"}
    assert warn(make()) == {"no-unsubscribe", "everyone"}
    assert warn(make(**calm), lacking=1) == {"missing-variables"}
    assert warn(make(**calm), Trial(CONTENT, tried=2, failed=2)) == {"all-fail"}
    assert warn(make(**calm, finish_at="2026-11-28T13:00:00Z")) == {"finishes-too-early"}


@pytest.mark.parametrize(
    ("fields", "shut_out"),
    [
        ({"finish_at": "2026-11-28T20:00:00Z"}, 3 + 2 + 5),  # from 12:00 in UTC, 21:00 in Tokyo, 07:00 in New York
        ({"finish_at": "2026-11-29T12:00:00Z"}, 0),
        ({"start_at": "2026-11-29T00:30:00Z", "finish_at": "2026-11-29T08:00:00Z"}, 7 + 2 + 5),
        ({}, 0),
    ],
)
def test_those_whose_hours_never_open_are_counted(fields: dict[str, Any], shut_out: int) -> None:
    definition = make(hours={"from": "09:00", "to": "12:00", "timezone": "UTC"}, **fields)
    zones = {"Asia/Tokyo": 3, "America/New_York": 7, "No/Where": 2, None: 5}
    assert count_shut_out(definition, NOW, zones) == shut_out
    warned = dict(list_warnings(definition, NOW, None, Trial(CONTENT), shut_out=shut_out))
    assert ("hours-never-open" in warned) == bool(shut_out)


def test_every_value_of_an_audience_is_an_argument() -> None:
    audience = Audience(any=("a'",), none=("b",), attributes={"x'; DROP": "y'"})
    source = write_source("shop", audience, first=4)
    assert "'" not in source.sql
    assert source.args == ["shop", ["a'"], ["b"], '{"x\'; DROP":"y\'"}']
    assert all(f"${number}" in source.sql for number in (4, 5, 6, 7))


def test_a_test_mail_is_marked_and_the_same_for_the_same_idempotency_key() -> None:
    mailing = make_mailing(content={**CONTENT, "tags": [f"t{number}" for number in range(20)]})

    def compose(address: str, name: str | None) -> Any:
        return compose_test(mailing, KEY, address, {"name": "Ann", "plan": "pro"}, NOW, name, 1_000_000)

    first = compose("a@x.org", "once")
    assert first == compose("a@x.org", "once")
    assert len({compose(*each).id for each in (("b@x.org", "once"), ("a@x.org", None), ("a@x.org", None))}) == 3
    assert (first.due_at, b'"mailing-test"' in first.event, b"t19" in first.event) == (NOW, True, False)
    assert b"mailing_id" not in first.event
