"""What is written of a mailing's recipients, when their mail may leave, and how they are shown."""

from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from services.scheduler.mailings.audience import Audience
from services.scheduler.mailings.course.freezing import Addressee, Freezer, Turns
from services.scheduler.mailings.hours import Hours
from services.scheduler.mailings.mailing import Mailing, MailingDefinition, MailingState
from services.scheduler.mailings.states import KEPT_AS, MessageState, show_state
from services.scheduler.pacing.states import ENDS, BulkState
from shared.events import BulkRequested
from tests.support.mailings import keep_mailing

NOW = datetime(2030, 3, 20, 12, tzinfo=UTC)
CONTENT = {"from": "news@example.com", "subject": "Hello {{ name }}", "text": "Your plan: {{ plan }}"}


def make_mailing(**fields: Any) -> Mailing:
    definition = MailingDefinition(name="Spring", content=CONTENT, audience=Audience(), **fields)
    return keep_mailing(definition, NOW, state=MailingState.RUNNING, lane=1, started_at=NOW)


def make_addressee(*, unsubscribed: bool = False, **variables: Any) -> Addressee:
    return Addressee(uuid4(), "ann@example.org", "Ann", None, variables, unsubscribed)


def test_an_attribute_never_takes_the_place_of_address_or_name() -> None:
    (row,) = Freezer(make_mailing(), 10_000).make_rows([make_addressee(plan="pro", name="Bob")], 5, NOW)
    assert orjson.loads(row.own) == {
        "to": "Ann <ann@example.org>",
        "variables": {"plan": "pro", "address": "ann@example.org", "name": "Ann"},
    }
    assert (row.number, row.state) == (6, BulkState.PENDING)


def test_a_recipient_is_the_same_mail_whoever_takes_him_in() -> None:
    who = make_addressee()
    rows = [Freezer(make_mailing(), 10_000).make_rows([who], number, NOW)[0] for number in (0, 3)]
    assert rows[0].id == rows[1].id
    assert rows[0].id != Freezer(make_mailing(), 10_000).make_rows([make_addressee()], 0, NOW)[0].id


def test_who_has_unsubscribed_is_skipped_and_who_does_not_fit_fails_alone() -> None:
    people = [make_addressee(), make_addressee(unsubscribed=True), make_addressee(plan="x" * 9_000)]
    rows = Freezer(make_mailing(), 8_000).make_rows(people, 0, NOW)
    assert [(row.state.value, row.reason) for row in rows] == [
        ("pending", None),
        ("skipped", "unsubscribed"),
        ("failed", "invalid_request"),
    ]


@pytest.mark.parametrize("name", ["", "Ann", 'Ann "A, B" <a@x.org>'])
def test_recipients_are_read_again_however_many_quoted_addresses_one_event_has(name: str) -> None:
    people = [Addressee(uuid4(), f'"ann {n}, lee"@example.org', name, None, {}, unsubscribed=False) for n in range(500)]
    rows = Freezer(make_mailing(), 10_000).make_rows(people, 0, NOW)
    read = BulkRequested.model_validate({**CONTENT, "mails": [orjson.loads(row.own) for row in rows]})
    assert [(each.mailbox.address, each.mailbox.name) for each in read.mails] == [(who.address, name) for who in people]


def test_the_content_is_a_mailings_and_no_recipients() -> None:
    content = orjson.loads(Freezer(make_mailing(), 10_000).content)
    assert {name: content[name] for name in ("mailing_id", "account", "paced")} == {
        "mailing_id": str(UUID(int=7)),
        "account": "shop",
        "paced": True,
    }
    assert not {"mails", "bulk_id", "priority"} & content.keys()


@pytest.mark.parametrize(
    ("fields", "zone", "turn"),
    [
        ({}, None, (NOW, None)),
        ({"finish_at": NOW + timedelta(hours=1)}, None, (NOW, None)),
        ({"hours": Hours(time(9), time(18))}, None, (NOW, NOW + timedelta(hours=6))),
        ({"hours": Hours(time(9), time(18))}, "Asia/Tokyo", (NOW + timedelta(hours=12), NOW + timedelta(hours=21))),
        (
            {"hours": Hours(time(9), time(18)), "finish_at": NOW + timedelta(hours=13)},
            "Asia/Tokyo",
            (NOW + timedelta(hours=12), NOW + timedelta(hours=21)),
        ),
    ],
)
def test_mail_may_leave_in_its_recipients_hours_and_its_end_is_not_written_down(
    fields: dict[str, Any], zone: str | None, turn: tuple[datetime, datetime | None]
) -> None:
    turns = Turns(make_mailing(**fields).definition, NOW)
    assert turns.find(zone) == turn
    assert turns.has_one(zone)


def test_one_whose_hours_begin_after_the_end_never_has_a_turn() -> None:
    finish = NOW + timedelta(hours=1)
    turns = Turns(make_mailing(hours=Hours(time(9), time(18)), finish_at=finish).definition, NOW)
    assert not turns.has_one("Asia/Tokyo")


def test_every_state_is_shown_as_one_and_is_final_where_it_is_an_end() -> None:
    assert sorted(state for kept in KEPT_AS.values() for state in kept) == sorted(BulkState)
    for kept in BulkState:
        standing = show_state(kept, None)
        assert standing.final is (kept in ENDS)
        assert not (standing.final and standing.in_flight)
        assert (standing.reason is None) or standing.state in (MessageState.FAIL, MessageState.SKIPPED)
    assert show_state(BulkState.FAILED, "rejected").reason == "rejected"
    assert show_state(BulkState.SENT, "deferred").reason is None
