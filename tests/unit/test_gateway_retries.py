"""Which recipients of a mail may be tried again, and the mail that does."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from services.gateway.retries import Candidate, Relative, RetryRefused, choose, read_again, renew
from shared.batching import Record
from shared.events import BulkRequested, EmailRequested, derive_bulk_entry_id, derive_record_id

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
ID = UUID(int=7)
LIMIT = 1024 * 1024
MAIL = {
    "from": "shop@example.com",
    "to": ["ann@x.org", "bob@x.org"],
    "cc": ["cid@x.org"],
    "bcc": ["dan@x.org"],
    "subject": "s",
    "text": "t",
}


def make_row(email_id: UUID = ID, complete: bool = True, **states: str) -> dict[str, Any]:
    """A mail of the read model; a state with a reason is written `failed/unknown`."""
    recipients = []
    for name, text in states.items():
        state, _, reason = text.partition("/")
        recipients.append({"address": f"{name}@x.org", "state": state, "reason": reason or None})
    return {
        "id": email_id,
        "digest": EmailRequested.model_validate(MAIL).compute_digest(),
        "complete": complete,
        "recipients": recipients,
        "topic": "email.requested",
        "partition": 3,
        "offset": 42,
        "send_at": None,
    }


def decide(row: dict[str, Any], **options: Any) -> Candidate:
    given: dict[str, Any] = {"lines": [], "relatives": [], "others": [], "include_unknown": False}
    return choose(row, **(given | options))


def refusal_of(row: dict[str, Any], **options: Any) -> RetryRefused:
    with pytest.raises(RetryRefused) as caught:
        decide(row, **options)
    return caught.value


def test_only_those_who_got_nothing_are_tried_again() -> None:
    row = make_row(ann="sent", bob="failed/rejected", cid="failed/expired")
    assert decide(row).recipients == {"bob@x.org", "cid@x.org"}


@pytest.mark.parametrize("open_state", ["pending", "deferred/deferred", "deferred/unknown"])
def test_what_is_still_on_its_way_is_left_alone(open_state: str) -> None:
    assert refusal_of(make_row(complete=False, ann="failed/rejected", bob=open_state)).slug == "not-final"


def test_a_mail_everybody_got_is_not_tried_again() -> None:
    assert refusal_of(make_row(ann="sent")).slug == "nothing-to-retry"


def test_a_request_nobody_could_read_cannot_be_tried_again() -> None:
    assert refusal_of(make_row() | {"digest": None}).slug == "unreadable"


@pytest.mark.parametrize(("doubt", "complete"), [("unknown/unknown", False), ("failed/unknown", True)])
def test_doubtful_recipients_need_an_explicit_word(doubt: str, complete: bool) -> None:
    alone = make_row(complete=complete, ann="sent", bob=doubt)
    assert refusal_of(alone).slug == "outcome-unknown"
    assert decide(alone, include_unknown=True).recipients == {"bob@x.org"}
    mixed = make_row(complete=complete, ann="failed/rejected", bob=doubt)
    assert decide(mixed).recipients == {"ann@x.org"}


def test_doubt_stays_when_a_later_attempt_had_an_answer() -> None:
    row = make_row(ann="failed/rejected")
    told = {"reason": "unknown", "recipients": [{"address": "ann@x.org"}]}
    line = {"email_id": ID, "type": "email.failed", "data": told}
    assert refusal_of(row, lines=[line]).slug == "outcome-unknown"


def test_a_retry_on_its_way_stands_in_the_way_and_is_named() -> None:
    retry = make_row(uuid4(), complete=False, ann="pending")
    relative = Relative(retry["id"], 1, timedelta(hours=5), retry)
    refused = refusal_of(make_row(ann="failed/rejected"), relatives=[relative], others=[retry])
    assert (refused.slug, refused.retry_id) == ("retry-in-progress", retry["id"])


def test_a_retry_not_seen_yet_stands_in_the_way_for_a_while() -> None:
    row = make_row(ann="failed/rejected")
    fresh = Relative(uuid4(), 1, timedelta(seconds=3), None)
    assert refusal_of(row, relatives=[fresh]).retry_id == fresh.id
    never_published = Relative(uuid4(), 1, timedelta(hours=1), None)
    assert decide(row, relatives=[never_published]).number == 2


def test_what_a_retry_has_brought_is_not_tried_again() -> None:
    retry = make_row(uuid4(), ann="sent", bob="failed/rejected")
    row = make_row(ann="failed/rejected", bob="failed/rejected")
    relative = Relative(retry["id"], 1, timedelta(hours=1), retry)
    found = decide(row, relatives=[relative], others=[retry])
    assert found.recipients == {"bob@x.org"} and found.number == 2
    assert decide(retry, relatives=[relative], others=[row]).recipients == {"bob@x.org"}, "a retry may be tried again"


def make_record(data: dict[str, Any], at: datetime = NOW, offset: int = 42) -> Record:
    return Record("email.requested", 3, offset, int(at.timestamp() * 1000), orjson.dumps(data), ())


def test_the_new_mail_is_the_old_one_for_whom_is_left() -> None:
    row = make_row(ann="sent", bob="failed/rejected", cid="sent", dan="failed/rejected")
    candidate = decide(row)
    data = MAIL | {"id": str(ID), "tags": ["june"], "send_at": "2026-05-01T10:00:00Z", "account": "shop"}
    row["digest"] = EmailRequested.model_validate(data).compute_digest()
    record = make_record(data)
    mail, _ = read_again(candidate, {(3, 42): record}, "c", LIMIT)
    new_id = uuid4()
    retry = renew(mail, candidate, record, new_id=new_id, api_key_id="k", now=NOW)
    assert retry.recipients == ["bob@x.org", "dan@x.org"]
    assert (retry.cc, retry.subject, retry.tags, retry.account) == ([], "s", ["june"], "shop")
    assert (retry.id, retry.retry_of, retry.api_key_id, retry.requested_at) == (new_id, ID, "k", NOW)
    assert (retry.send_at, retry.expires_at) == (None, None)
    again = EmailRequested.model_validate_json(retry.to_json())
    assert again.recipients == retry.recipients


@pytest.mark.parametrize(
    ("send_at", "expires_at", "lifetime"),
    [
        (None, NOW + timedelta(minutes=10), timedelta(minutes=10)),
        (NOW + timedelta(days=3), NOW + timedelta(days=4), timedelta(days=1)),
        (None, NOW - timedelta(minutes=10), timedelta(minutes=1)),
        (None, NOW + timedelta(days=300), timedelta(days=7)),
    ],
)
def test_a_mail_with_a_time_to_live_gets_as_much_again(
    send_at: datetime | None, expires_at: datetime, lifetime: timedelta
) -> None:
    mail = EmailRequested.model_validate(MAIL | {"send_at": send_at, "expires_at": expires_at})
    candidate = decide(make_row(ann="failed/rejected"))
    later = NOW + timedelta(days=9)
    retry = renew(mail, candidate, make_record(MAIL), new_id=uuid4(), api_key_id="k", now=later)
    assert retry.expires_at == later + lifetime


def test_a_record_that_is_gone_or_another_one_now_is_not_taken() -> None:
    candidate = decide(make_row(ann="failed/rejected"))
    others: list[dict[str, Any]] = [MAIL | {"subject": "another"}, MAIL | {"id": str(uuid4())}, MAIL, {"x": 1}]
    for records in ({}, *({(3, 42): make_record(each)} for each in others)):
        with pytest.raises(RetryRefused) as caught:
            read_again(candidate, records, "c", LIMIT)
        assert caught.value.slug == "aged-out"


def test_a_scheduled_mail_is_found_where_it_was_released() -> None:
    row = make_row(ann="failed/rejected")
    line = {"email_id": ID, "type": "email.requested", "topic": "email.requested", "partition": 3, "offset": 99}
    line |= {"at": NOW, "data": {"digest": row["digest"]}}
    candidate = decide(row, lines=[line])
    assert candidate.spots == ((3, 42), (3, 99))
    mail, record = read_again(candidate, {(3, 99): make_record(MAIL | {"id": str(ID)}, offset=99)}, "c", LIMIT)
    assert (mail.subject, record.offset) == ("s", 99)


def test_one_entry_of_a_bulk_event_becomes_a_mail_of_its_own() -> None:
    named = uuid4()
    entries = [
        {"to": "ann@x.org", "variables": {"name": "Ann"}},
        {"id": str(named), "to": "bob@x.org", "variables": {"name": "Bob"}, "metadata": {"n": 2}},
    ]
    data: dict[str, Any] = {
        "from": "shop@example.com",
        "subject": "Hello {{ name }}",
        "html": "<p>{{ name }}</p>",
        "tags": ["june"],
    }
    data |= {"mailing_id": "m1", "account": "shop", "mails": entries}
    record = make_record(data)
    bulk_id = derive_record_id("c", record.coordinates)
    mails = BulkRequested.model_validate(data | {"bulk_id": str(bulk_id)}).list_mails()
    for index, (email_id, name) in enumerate(((derive_bulk_entry_id(bulk_id, 0), "ann"), (named, "bob"))):
        states: dict[str, Any] = {name: "failed/rejected"}
        row = make_row(email_id, **states) | {"digest": mails[index].compute_digest()}
        candidate = decide(row)
        mail, _ = read_again(candidate, {(3, 42): record}, "c", LIMIT)
        retry = renew(mail, candidate, record, new_id=uuid4(), api_key_id="k", now=NOW)
        again = EmailRequested.model_validate_json(retry.to_json())
        assert (again.recipients, again.variables) == ([f"{name}@x.org"], {"name": name.title()})
        assert (again.subject, again.tags, again.mailing_id) == ("Hello {{ name }}", ["june"], "m1")
        assert again.metadata == mails[index].metadata
