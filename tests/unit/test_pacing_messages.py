"""A bulk mail is the same mail whichever way it leaves: what is kept of it, and what it is published as."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from services.scheduler.pacing.lanes import LaneKey, LaneKind
from services.scheduler.pacing.messages import MAILS_PER_EVENT, Writer
from services.scheduler.pacing.results import choose, read_result
from services.scheduler.pacing.rows import BulkRow, keep_bulk, keep_mail, share_contents
from services.scheduler.pacing.settling_store import Result
from services.scheduler.pacing.states import BulkState
from services.scheduler.pacing.store import QueuedMail
from services.sender.building import build_mail
from services.sender.form import FormMemo
from services.sender.intake import Intake
from shared.batching import Record
from shared.events import (
    BulkRequested,
    Coordinates,
    EmailRequested,
    UnreadableEvent,
    derive_bulk_entry_id,
    open_record,
    read_bulk,
    read_email,
)
from shared.producing import Message

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
PLACE = Coordinates("email.requested", 0, 0, 0)
LIMIT = 20_000
MAIL: dict[str, Any] = {
    "from": "Shop <shop@example.com>",
    "to": ["Ann <ann@example.org>"],
    "subject": "Hello {{ name }}",
    "text": "Dear {{ name }}\n",
    "priority": "bulk",
}
FULL = MAIL | {
    "html": "<p>{{ name }}</p>",
    "reply_to": ["r@example.com"],
    "envelope_from": "bounces@example.com",
    "headers": {"X-A": "1"},
    "attachments": [{"filename": "a.txt", "content": "YQ=="}],
    "variables": {"name": "Ann", "nothing": None},
    "metadata": {"row": 1},
    "tags": ["t"],
    "callback": {"url": "https://x.org/", "on": ["sent"]},
    "on_unknown": "hold",
    "test": True,
    "api_key_id": "k",
    "template": {"name": "hello", "version": 2},
    "batch_id": "b",
    "retry_of": str(uuid4()),
    "unsubscribe_url": "https://example.com/u/1",
    "account": "shop",
}
KINDS = {
    "plain": MAIL,
    "no template at all": MAIL | {"subject": "s", "text": "t"},
    "a template without variables": MAIL | {"subject": "s", "variables": {}},
    "everything": FULL,
    "a name that needs quotes": MAIL | {"to": ['"Lee, \\"Ann\\"" <ann@example.org>'], "variables": {"name": "x"}},
    "several recipients": MAIL | {"to": ["a@example.org", "b@example.org"], "cc": ["c@example.org"]},
}


def read_mail(fields: dict[str, Any]) -> EmailRequested:
    return EmailRequested.model_validate({"id": str(uuid4()), **fields})


def publish(rows: list[BulkRow], limit: int = LIMIT) -> list[Message]:
    """As handing out does it."""
    own, ids, contents = share_contents(rows)
    bodies = {(1, content.id): content.body for content in contents}
    queued = [
        QueuedMail(row.id, 1, content_id, kept, NOW, row.traceparent)
        for row, kept, content_id in zip(rows, own, ids, strict=True)
    ]
    queued.sort(key=lambda mail: str(mail.content))
    return Writer("email.requested", limit).write(uuid4(), queued, bodies, NOW)


def read_back(messages: list[Message]) -> list[EmailRequested]:
    """As the sender does it."""
    found: list[EmailRequested] = []
    for message in messages:
        opened = open_record(message.value, dict(message.headers)["ce_type"].decode())
        assert not opened.belongs_to_scheduler
        if "mails" in opened.data:
            found += read_bulk(opened, "c", PLACE).list_mails()
        else:
            found.append(read_email(opened, "c", PLACE))
    return found


@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("count", [1, 3])
def test_a_mail_is_no_other_mail_for_having_been_paced(fields: dict[str, Any], count: int) -> None:
    mails = [read_mail(fields) for _ in range(count)]
    back = read_back(publish([keep_mail(mail, NOW, None, LIMIT) for mail in mails]))
    assert {mail.id for mail in back} == {mail.id for mail in mails}
    left_out = {"priority": "normal", "expires_at": NOW, "paced": True, "requested_at": None}
    known = {mail.id: mail.model_copy(update=left_out) for mail in mails}
    for mail in back:
        assert mail.id
        assert mail == known[mail.id]
        assert mail.compute_digest() == known[mail.id].compute_digest()


def test_plain_mails_leave_together_and_their_braces_stay() -> None:
    mails = [read_mail(MAIL) for _ in range(5)]
    [message] = publish([keep_mail(mail, NOW, None, LIMIT) for mail in mails])
    [mail, *_] = read_back([message])
    intake = Intake("c", LIMIT, default_expiry=NOW - datetime(2026, 1, 30, tzinfo=UTC))
    work = intake.begin(mail, NOW, None)
    for memo in (None, FormMemo()):
        assert b"Subject: Hello {{ name }}" in build_mail(mail, work.entry, memo).content


def test_a_bulk_events_mails_are_kept_one_by_one_under_the_ids_they_would_have_had() -> None:
    own = ("to", "variables", "metadata", "retry_of", "unsubscribe_url")
    fields = {name: value for name, value in FULL.items() if name not in own}
    named = {"to": "ann@example.org", "name": "Ann", "variables": {"name": "x"}, "metadata": {"row": 1}}
    named["unsubscribe_url"] = "https://example.com/u/ann"
    given = {"id": str(uuid4()), "to": "Bob <bob@example.org>"}
    bulk = BulkRequested.model_validate({**fields, "bulk_id": str(uuid4()), "mails": [named, given]})
    assert bulk.bulk_id
    rows = keep_bulk(bulk, NOW, None, LIMIT)
    assert [row.id for row in rows] == [derive_bulk_entry_id(bulk.bulk_id, 0), UUID(given["id"])]
    assert {row.lane for row in rows} == {LaneKey("shop", LaneKind.BATCH, "b")}
    digests = {mail.id: mail.compute_digest() for mail in bulk.list_mails()}
    for some in (rows, rows[:1], rows[1:]):
        back = read_back(publish(some))
        assert all(mail.compute_digest() == digests[mail.id] for mail in back if mail.id)
        assert {mail.unsubscribe_url for mail in back if mail.id == rows[0].id} <= {named["unsubscribe_url"]}


def test_an_event_holds_a_hundred_mails_and_no_more_bytes_than_the_limit() -> None:
    mails = [read_mail(MAIL | {"variables": {"name": "x" * 200}}) for _ in range(250)]
    rows = [keep_mail(mail, NOW, None, LIMIT) for mail in mails]
    whole = publish(rows, 10**6)
    assert [len(orjson.loads(message.value)["mails"]) for message in whole] == [MAILS_PER_EVENT, MAILS_PER_EVENT, 50]
    parts = publish(rows, LIMIT)
    assert max(len(message.value) for message in parts) <= LIMIT
    assert len(read_back(parts)) == 250
    with pytest.raises(UnreadableEvent, match=r"the limit is 20000"):
        keep_mail(read_mail(MAIL | {"text": "x" * LIMIT}), NOW, None, LIMIT)


def test_a_content_that_only_one_mail_has_is_kept_with_it() -> None:
    alone, large = MAIL | {"text": "other"}, MAIL | {"text": "x" * 10_000}
    rows = [keep_mail(read_mail(fields), NOW, None, LIMIT) for fields in (MAIL, MAIL, alone, large)]
    _, ids, contents = share_contents(rows)
    assert ids[0] == ids[1]
    assert (ids[2], len(contents)) == (None, 2)


def tell(kind: str, **data: Any) -> Result | None:
    told = {"id": str(uuid4()), "attempt": 1, "paced": True, **data}
    return read_result(Record(kind, 0, 0, 0, orjson.dumps(told), (("ce_type", kind.encode()),)))


def outcomes(*states: str) -> dict[str, Any]:
    return {"complete": True, "outcomes": [{"state": state} for state in states], "recipients": [{}] * len(states)}


@pytest.mark.parametrize(
    ("kind", "data", "state"),
    [
        ("email.sent", outcomes("sent"), BulkState.SENT),
        ("email.sent", outcomes("sent", "failed"), BulkState.PARTIALLY_SENT),
        ("email.sent", {"outstanding": 1}, BulkState.DEFERRED),
        ("email.failed", {"reason": "deferred"}, BulkState.DEFERRED),
        ("email.failed", {"reason": "unknown"}, BulkState.UNKNOWN),
        ("email.failed", {"reason": "rejected"} | outcomes("failed"), BulkState.FAILED),
        ("email.failed", {"reason": "rejected"} | outcomes("sent", "failed"), BulkState.PARTIALLY_SENT),
        ("email.failed", {"reason": "expired"} | outcomes("failed", "failed"), BulkState.EXPIRED),
        ("email.failed", {"reason": "cancelled"} | outcomes("failed"), BulkState.CANCELLED),
    ],
)
def test_a_result_says_where_a_mail_stands(kind: str, data: dict[str, Any], state: BulkState) -> None:
    found = tell(kind, **data)
    assert found
    assert found.state is state


def test_what_is_not_paced_or_makes_no_sense_is_passed_over() -> None:
    assert tell("email.sent", paced=False) is None
    assert tell("email.sent", id="x") is None
    assert tell("email.sent", attempt="many") is None
    assert tell("email.sent", attempt=2**40) is None
    assert tell("email.sent", id="g" * 8 + str(uuid4())[8:]) is None
    assert tell("email.requested") is None


def test_of_two_results_an_end_counts_then_the_later_attempt() -> None:
    deferred, again, sent = (
        Result("1", state, attempt)
        for state, attempt in ((BulkState.DEFERRED, 1), (BulkState.DEFERRED, 2), (BulkState.SENT, 1))
    )
    assert choose(deferred, again) is choose(again, deferred) is again
    assert choose(sent, again) is choose(again, sent) is sent
