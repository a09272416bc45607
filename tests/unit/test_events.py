import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import RFC_4122, UUID, uuid5

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.events import (
    Coordinates,
    EmailFailed,
    EmailRequested,
    EmailSent,
    EventType,
    FailedRecipient,
    Namespace,
    OpenedRecord,
    UnreadableEvent,
    build_headers,
    derive_batch_entry_id,
    derive_bulk_entry_id,
    derive_event_id,
    derive_record_id,
    format_time,
    new_email_id,
    open_record,
    read_cancellation,
    read_email,
    read_header,
)
from shared.states import FailureReason

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"
RECORD = Coordinates("email.requested", 3, 41, 1_700_000_000_123)
MINIMAL: dict[str, Any] = {"from": "no-reply@x.org", "to": "ann@y.org", "subject": "Hello", "text": "Hi"}

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ONE_LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=30)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=4)
MAILBOXES = st.builds(
    lambda local, domain, name: {"address": f"{local}@{domain}", "name": name},
    st.sampled_from(["ann", "bob.lee", "c+d"]),
    st.sampled_from(["x.org", "X.org", "y.example"]),
    ONE_LINE,
)
TIMES = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])).map(datetime.isoformat)
EMAILS = st.fixed_dictionaries(
    {
        "from": MAILBOXES,
        "to": st.lists(MAILBOXES, min_size=1, max_size=3),
        "subject": ONE_LINE,
        "html": TEXT,
    },
    optional={
        "cc": st.lists(MAILBOXES, max_size=2),
        "reply_to": st.lists(MAILBOXES, max_size=2),
        "text": TEXT,
        "headers": st.dictionaries(st.sampled_from(["X-One", "List-Unsubscribe"]), ONE_LINE),
        "attachments": st.lists(
            st.fixed_dictionaries({"filename": st.just("ä.txt"), "content": st.just("aGk=")}), max_size=1
        ),
        "variables": OBJECTS,
        "metadata": OBJECTS,
        "tags": st.lists(st.sampled_from(["a", "b"]), max_size=2),
        "callback": st.sampled_from(["", "https://x/?a=1&b=%20", {"url": "https://x", "on": ["failed"]}]),
        "on_unknown": st.sampled_from(["resend", "hold"]),
        "test": st.booleans(),
    },
)


def read(data: Any, **options: Any) -> EmailRequested:
    return read_email(open_record(orjson.dumps(data), None), CLUSTER, RECORD, **options)


def errors_of(data: Any) -> dict[str, str]:
    with pytest.raises(UnreadableEvent) as caught:
        read(data)
    return {error["pointer"]: error["detail"] for error in caught.value.errors}


# Which event is it?


@pytest.mark.parametrize(
    ("ce_type", "data", "expected"),
    [
        (None, MINIMAL, EventType.REQUESTED),
        (None, {"cancel": True, "id": str(ID)}, EventType.CANCELLATION_REQUESTED),
        (None, {"cancel": False}, EventType.REQUESTED),
        (None, {"mails": []}, EventType.BULK_REQUESTED),
        ("", MINIMAL, EventType.REQUESTED),
        ("email.requested", {"mails": []}, EventType.REQUESTED),
        ("email.bulk_requested", {}, EventType.BULK_REQUESTED),
        ("email.cancellation_requested", {}, EventType.CANCELLATION_REQUESTED),
        ("org.example.unheard_of", MINIMAL, None),
    ],
)
def test_the_type_is_ce_type_or_else_the_shape(ce_type: str | None, data: Any, expected: EventType | None) -> None:
    assert open_record(orjson.dumps(data), ce_type).type is expected


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'"text"', b"5", b"\xff\xfe", b'{"a": NaN}', b"[" * 5000])
def test_a_record_that_is_no_object_is_unreadable(value: bytes | None) -> None:
    with pytest.raises(UnreadableEvent) as caught:
        open_record(value, None)
    assert [error["pointer"] for error in caught.value.errors] == [""]
    assert caught.value.event_id is None


def test_an_event_over_the_limit_is_unreadable_and_says_the_limit() -> None:
    value = orjson.dumps({**MINIMAL, "text": "x" * 100})
    assert open_record(value, None, limit=len(value))
    with pytest.raises(UnreadableEvent, match=f"limit is {len(value) - 1}"):
        open_record(value, None, limit=len(value) - 1)


@pytest.mark.parametrize(
    ("data", "scheduled"),
    [
        ({}, False),
        ({"send_at": None}, False),
        ({"priority": "normal"}, False),
        ({"send_at": "2000-01-01T00:00:00Z"}, True),
        ({"send_at": "no time at all"}, True),
        ({"priority": "bulk"}, True),
    ],
)
def test_whose_event_it_is_is_decided_by_content_alone(data: dict[str, Any], scheduled: bool) -> None:
    assert OpenedRecord(EventType.REQUESTED, data).belongs_to_scheduler is scheduled


# Reading a mail


def test_the_least_a_publisher_must_give_is_a_mail() -> None:
    mail = read(MINIMAL)

    assert mail.recipients == ["ann@y.org"]
    assert (mail.account, mail.priority, mail.on_unknown, mail.test) == ("default", "normal", "resend", False)
    assert mail.id == derive_record_id(CLUSTER, RECORD)


def test_unknown_fields_are_ignored() -> None:
    assert read({**MINIMAL, "from_the_future": {"a": 1}}).subject == "Hello"


def test_an_id_that_was_given_is_kept() -> None:
    assert read({**MINIMAL, "id": str(ID)}).id == ID


def test_recipients_are_named_once_across_to_cc_and_bcc() -> None:
    mail = read({**MINIMAL, "to": "a@x.org, b@x.org", "cc": ["A <a@X.ORG>"], "bcc": ["c@x.org", "b@x.org"]})

    assert mail.recipients == ["a@x.org", "b@x.org", "c@x.org"]


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"from": "nobody"}, {"/from"}),
        ({"from": None}, {"/from"}),
        ({"to": []}, {"/to"}),
        ({"to": ""}, {"/to"}),
        ({"to": ["a@x.org", "nobody"]}, {"/to/1"}),
        ({"to": [f"a{n}@x.org" for n in range(1001)]}, {"/to"}),
        ({"text": None}, {"/html"}),
        ({"subject": 5}, {"/subject"}),
        ({"subject": "a\r\nBcc: b@x.org"}, {"/subject"}),
        ({"headers": {"Bcc": "b@x.org"}}, {"/headers/Bcc"}),
        ({"headers": {"content-type": "x/y"}}, {"/headers/content-type"}),
        ({"headers": {"X-A": "a\nb"}}, {"/headers/X-A"}),
        ({"headers": {"X~/A b": "a"}}, {"/headers/X~0~1A b"}),
        ({"attachments": [{"filename": "a\nb", "content": ""}]}, {"/attachments/0/filename"}),
        ({"attachments": [{"filename": "a", "content": "%"}]}, {"/attachments/0/content"}),
        (
            {"attachments": [{"filename": "a", "content": "", "content_type": "x/y\r\nA: b"}]},
            {"/attachments/0/content_type"},
        ),
        ({"callback": "ftp://x"}, {"/callback"}),
        ({"callback": "https://user:secret@x"}, {"/callback"}),
        ({"callback": "https://x/\r\nA: b"}, {"/callback"}),
        ({"callback": 5}, {"/callback"}),
        ({"callback": {"url": "nowhere", "on": ["sent"]}}, {"/callback/url"}),
        ({"callback": {"url": "https://x", "on": []}}, {"/callback/on"}),
        ({"send_at": "2026-01-31T09:00:00"}, {"/send_at"}),
        ({"send_at": 1_700_000_000}, {"/send_at"}),
        ({"expires_at": "0001-01-01T00:00:00+14:00"}, {"/expires_at"}),
        ({"metadata": {"a": "x" * 9000}}, {"/metadata"}),
        ({"tags": ["a b"]}, {"/tags/0"}),
        ({"tags": ["a"] * 21}, {"/tags"}),
        ({"account": "../x"}, {"/account"}),
        ({"mailing_id": "a\nb"}, {"/mailing_id"}),
        ({"priority": "urgent", "subject": None}, {"/priority", "/subject"}),
    ],
)
def test_each_mistake_is_pointed_at(change: dict[str, Any], pointers: set[str]) -> None:
    assert set(errors_of({**MINIMAL, **change})) == pointers


def test_errors_do_not_repeat_what_was_sent() -> None:
    secret = "s3cr3t"
    found = errors_of(
        {
            "from": f"{secret} @@x.org",
            "to": [f"{secret}<>"],
            "subject": f"{secret}\n",
            "text": "x",
            "headers": {"X-A": f"{secret}\n"},
            "callback": f"https://u:{secret}@x",
            "metadata": secret,
            "tags": [f"{secret} {secret}"],
            "account": f"/{secret}",
        }
    )

    assert len(found) == 8
    assert secret not in json.dumps(found)


def test_an_unreadable_mail_carries_an_id_only_where_it_is_derived_from_the_record() -> None:
    for data, expected in (
        ({"subject": "x"}, derive_record_id(CLUSTER, RECORD)),
        ({"subject": "x", "id": str(ID)}, None),
        ({"subject": "x", "id": "not an id"}, None),
    ):
        with pytest.raises(UnreadableEvent) as caught:
            read(data)
        assert caught.value.event_id == expected


@given(st.dictionaries(st.sampled_from([*EmailRequested.model_fields, "from"]), JSON) | OBJECTS)
@example({**MINIMAL, "send_at": "9999-12-31T23:59:59-14:00"})
@example({**MINIMAL, "to": [[["a@x.org"]]]})
@example({**MINIMAL, "from": {"address": "a@x.org", "name": {}}})
def test_any_object_is_a_mail_or_an_unreadable_event(data: dict[str, Any]) -> None:
    try:
        read({**MINIMAL, **data})
    except UnreadableEvent as exc:
        assert exc.errors


@given(st.binary(max_size=200))
def test_any_bytes_are_a_mail_or_an_unreadable_event(value: bytes) -> None:
    try:
        read_email(open_record(value, None), CLUSTER, RECORD)
    except UnreadableEvent as exc:
        assert exc.errors


@pytest.mark.parametrize(
    "field", ["subject", "from", "reply_to", "cc", "headers", "filename", "content_type", "envelope_from"]
)
@given(before=ONE_LINE, after=ONE_LINE, control=st.sampled_from(["\r", "\n", "\r\n"]))
def test_cr_and_lf_never_pass_into_a_header(field: str, before: str, after: str, control: str) -> None:
    text = f"{before}{control}{after}"
    change: dict[str, Any] = {field: text}
    if field == "headers":
        change = {"headers": {"X-A": text}}
    elif field in ("filename", "content_type"):
        change = {"attachments": [{"filename": "a", "content": "", field: text}]}

    assert errors_of({**MINIMAL, **change})


def test_a_cancellation_is_read() -> None:
    opened = open_record(orjson.dumps({"id": str(ID), "cancel": True}), None)
    assert read_cancellation(opened).id == ID
    with pytest.raises(UnreadableEvent):
        read_cancellation(open_record(b'{"cancel": true}', None))


# Writing it again


@given(EMAILS, TIMES)
@example({**MINIMAL, "from": {"address": "a@x.org", "name": '=?utf-8?q?=C3=A4?=, "b"'}}, "2026-01-01T00:00:00Z")
def test_a_mail_is_the_same_after_being_written_and_read(data: dict[str, Any], at: str) -> None:
    mail = read({**data, "id": str(ID), "send_at": at, "expires_at": at, "requested_at": at})
    again = read_email(open_record(mail.to_json(), None), CLUSTER, RECORD)

    assert again == mail
    assert again.to_json() == mail.to_json()
    assert again.compute_digest() == mail.compute_digest()


@given(EMAILS)
def test_the_digest_does_not_see_times_nor_bookkeeping(data: dict[str, Any]) -> None:
    mail = read(data)
    moved = read(
        {
            **data,
            "id": str(ID),
            "send_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-01-02T00:00:00Z",
            "priority": "bulk",
            "requested_at": "2026-01-01T00:00:00Z",
            "api_key_id": "k",
        }
    )

    assert moved.compute_digest() == mail.compute_digest()


@pytest.mark.parametrize(
    "change",
    [
        {"from": "other@x.org"},
        {"from": "Name <no-reply@x.org>"},
        {"to": "ann@y.org, bob@y.org"},
        {"cc": "bob@y.org"},
        {"bcc": "bob@y.org"},
        {"subject": "Hello!"},
        {"text": "Hi!"},
        {"html": "Hi"},
        {"headers": {"X-A": "a"}},
        {"attachments": [{"filename": "a", "content": "aGk="}]},
        {"variables": {"a": None}},
        {"callback": "https://x"},
        {"metadata": {"a": 1}},
        {"tags": ["a"]},
        {"account": "other"},
        {"on_unknown": "hold"},
    ],
)
def test_the_digest_sees_every_part_of_the_content(change: dict[str, Any]) -> None:
    assert read({**MINIMAL, **change}).compute_digest() != read(MINIMAL).compute_digest()


def test_a_list_and_a_string_of_the_same_recipients_are_the_same_content() -> None:
    one = read({**MINIMAL, "to": "Ann <ann@y.org>, bob@y.org"})
    other = read({**MINIMAL, "to": [{"address": "ann@y.org", "name": "Ann"}, "bob@y.org"]})

    assert one.compute_digest() == other.compute_digest()


# Identities: pinned, since every stored event depends on them


def test_derived_ids_never_change() -> None:
    assert str(derive_record_id(CLUSTER, RECORD)) == "ac562938-310d-5e8b-b985-ed1f640a0d53"
    assert str(derive_bulk_entry_id(ID, 0)) == "c28ba66f-0f57-5795-8c57-ee25c06f6303"
    assert str(derive_bulk_entry_id(ID, 1)) == "daedb703-4bff-5b34-93e4-5a607cc27fe1"
    sent = derive_event_id(ID, EventType.SENT, attempt=1, final=True, recipients=["b@x.org", "a@x.org"])
    assert str(sent) == "2574ce08-ea47-5bbb-8738-446537e29931"
    unread = derive_event_id(RECORD, EventType.FAILED, reason="invalid_request", final=True)
    assert str(unread) == "63382a88-9e69-5a85-8a2c-1ed4fbf6739f"
    assert read(MINIMAL).compute_digest() == read(MINIMAL).compute_digest()
    golden = {"from": "Shop <no-reply@example.com>", "to": ["ann@example.org"], "subject": "Hello", "text": "Hi"}
    assert read(golden).compute_digest() == "0e8f502e8023dd158a46fdafa3006943"


def test_a_result_keeps_its_id_whenever_it_is_published_and_differs_from_any_other() -> None:
    def failed(**change: Any) -> EmailFailed:
        fields: dict[str, Any] = {
            "id": ID,
            "attempt": 1,
            "reason": "rejected",
            "final": True,
            "recipients": "ab",
            **change,
        }
        fields["recipients"] = [FailedRecipient(address=f"{name}@x.org") for name in fields["recipients"]]
        return EmailFailed.model_validate(fields)

    base = failed()
    assert failed(recipients="ba", failed_at=datetime.now(UTC), complete=True, digest="d").event_id() == base.event_id()
    others = [
        failed(attempt=2),
        failed(reason=FailureReason.EXPIRED),
        failed(final=False),
        failed(recipients="a"),
        failed(id=UUID(int=1)),
    ]
    assert len({each.event_id() for each in [base, *others]}) == 6
    assert str(base.event_id()) == "8599299e-c3e0-5a25-9054-63e767f56d20"


def test_a_failure_without_id_is_identified_by_its_record() -> None:
    event = EmailFailed(reason=FailureReason.INVALID_REQUEST, final=True)

    assert event.event_id(RECORD) != event.event_id(Coordinates("email.requested", 3, 42, 1_700_000_000_123))
    with pytest.raises(ValueError, match="coordinates"):
        event.event_id()


def test_a_sent_event_of_another_attempt_is_another_event() -> None:
    fields = {
        "id": ID,
        "recipients": ["a@x.org"],
        "message_id": "<m@x>",
        "relay": "r",
        "response": "250 ok",
        "sent_at": "2026-01-01T00:00:00Z",
        "outstanding": 0,
    }
    one, two = (EmailSent.model_validate({**fields, "attempt": attempt}) for attempt in (1, 2))

    assert one.event_id() != two.event_id()


@given(st.integers(-(2**63), 2**63 - 1))
@example(253_402_300_800_000)
def test_a_publishers_timestamp_is_a_time_and_one_identity_for_every_client(timestamp_ms: int) -> None:
    record = Coordinates("email.requested", 3, 41, timestamp_ms)
    in_seconds = timestamp_ms / 1000.0  # as Faust and others hold it
    through_faust = Coordinates("email.requested", 3, 41, round(in_seconds * 1000))

    assert 1970 <= record.time.year < 9999
    assert derive_record_id(CLUSTER, record) == derive_record_id(CLUSTER, through_faust)
    assert format_time(record.time + timedelta(days=300))


def test_new_ids_are_uuid7_and_ascend() -> None:
    ids = [new_email_id() for _ in range(100)]

    assert {each.version for each in ids} == {7}
    assert sorted(ids) == ids
    assert len(set(ids)) == 100


# Headers


def test_headers_are_cloudevents_in_binary_mode() -> None:
    time = datetime(2026, 1, 31, 9, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))
    headers = dict(build_headers(EventType.SENT, ID, "milena/sender", time, "00-" + "a" * 32 + "-" + "b" * 16 + "-00"))

    assert headers == {
        "ce_specversion": b"1.0",
        "ce_id": str(ID).encode(),
        "ce_type": b"email.sent",
        "ce_source": b"milena/sender",
        "ce_time": b"2026-01-31T08:00:00.123Z",
        "content-type": b"application/json",
        "traceparent": b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-00",
    }
    assert "traceparent" not in dict(build_headers(EventType.SENT, ID, "s", time, None))
    assert format_time(time) == "2026-01-31T08:00:00.123Z"


@pytest.mark.parametrize(
    "headers", [[("ce_type", b"email.sent")], {"ce_type": b"email.sent"}, (("x", b""), ("ce_type", b"email.sent"))]
)
def test_a_header_is_read_from_either_client(headers: Any) -> None:
    assert read_header(headers, "ce_type") == "email.sent"
    assert read_header(headers, "ce_id") is None
    assert read_header(None, "ce_id") is None


def test_a_record_with_countless_errors_gets_a_bounded_answer() -> None:
    value = orjson.dumps({"from": "a@x.org", "to": [""] * 900, "subject": "x", "text": "x"})
    with pytest.raises(UnreadableEvent) as caught:
        read_email(open_record(value, None), "cluster", Coordinates("t", 0, 0, 0))
    assert len(caught.value.errors) == 21
    assert "more" in caught.value.errors[-1]["detail"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("to", ["x"] * 250_000),
        ("cc", [{}] * 250_000),
        ("reply_to", [0] * 500_000),
        ("to", [f"\u00e4{n}@x.org" for n in range(50_000)]),
        ("to", ['"a" ' * 90 + f"<a{n}@x.org>" for n in range(2_500)]),
        ("to", " " * 1_000_000),
        ("attachments", [0] * 500_000),
        ("callback", {"url": "https://x", "on": [0] * 500_000}),
        ("headers", {f"{n:x}": 0 for n in range(100_000)}),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
def test_no_event_takes_long_to_be_refused(field: str, value: object) -> None:
    record = orjson.dumps({**MINIMAL, field: value})
    began = time.monotonic()
    with pytest.raises(UnreadableEvent):
        read_email(open_record(record, None, 2 << 20), CLUSTER, RECORD)
    assert time.monotonic() - began < 3  # one took 27 s: longer than a consumer may be silent


@pytest.mark.parametrize("field", ["metadata", "variables"])
def test_what_is_nested_too_deeply_is_refused(field: str) -> None:
    deep: object = 1
    for _ in range(40):
        deep = [deep]
    value = orjson.dumps({"from": "a@x.org", "to": "b@x.org", "subject": "x", "text": "x", field: {"k": deep}})
    with pytest.raises(UnreadableEvent) as caught:
        read_email(open_record(value, None), "cluster", Coordinates("t", 0, 0, 0))
    assert caught.value.errors[0]["pointer"] == f"/{field}"


@given(TEXT)
def test_names_in_a_namespace_are_those_of_the_standard_library(text: str) -> None:
    named = Namespace(ID).name(text)
    assert (named, named.version, named.variant) == (uuid5(ID, text), 5, uuid5(ID, text).variant)


def test_a_batchs_entries_have_ids_of_its_time_that_sort_as_they_stand_in_it() -> None:
    batch_id = UUID("01a222fb-76b8-7114-96b9-25ba2a9aa42b")
    ids = [derive_batch_entry_id(batch_id, index) for index in range(1000)]
    assert {(each.version, each.variant, each.int >> 80) for each in ids} == {(7, RFC_4122, batch_id.int >> 80)}
    assert sorted(ids) == ids
    assert batch_id not in ids
    assert ids[7] == UUID("01a222fb-76b8-7007-96b9-25ba2a9aa42a")
