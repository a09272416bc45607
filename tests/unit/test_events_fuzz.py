"""Whatever lies on a topic: every reader of it ends with an answer, and what it has read it can write again."""

import asyncio
import json
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.callback.deliveries import Delivery
from services.callback.intake import Intake as CallbackIntake
from services.gateway.observing import observe
from services.gateway.rows import line_to_row, mail_to_row
from services.gateway.store import encode
from services.scheduler.intake import Intake as SchedulerIntake
from services.scheduler.pacing.rows import BulkRow, make_whole
from services.scheduler.waiting.delayed import Expiry
from services.sender.intake import Cancellation, Intake, Refusal, Skip
from services.sender.message import build_message, identify
from services.sender.work import Work
from shared.batching import Record
from shared.events import (
    BulkRequested,
    EmailRequested,
    EventType,
    UnreadableEvent,
    build_headers,
    open_record,
    read_bulk,
    read_cancellation,
    read_email,
)
from shared.producing import Message
from shared.templates import RenderedContent, TemplateError, render_content
from tests.unit.test_events import EMAILS, ID, JSON, MINIMAL, TIMES

LIMIT = 1024 * 1024
EXPIRY = Expiry(timedelta(hours=72), timedelta(days=7))
MAILS = EMAILS.map(lambda mail: {**MINIMAL, **mail})
RESULT: dict[str, Any] = {
    "id": str(ID),
    "attempt": 1,
    "recipients": [{"address": "ann@y.org", "smtp_code": 550, "enhanced_code": "5.1.1", "diagnostic": "550 no"}],
    "reason": "rejected",
    "final": True,
    "message_id": "<m@x.org>",
    "relay": "r:25",
    "response": "250 ok",
    "sent_at": "2026-01-01T00:00:00Z",
    "retry_at": "2026-01-01T00:00:00Z",
    "outstanding": 0,
    "complete": True,
    "outcomes": [{"address": "ann@y.org", "state": "sent", "attempt": 1}],
    "digest": "d",
    "callback": {"url": "https://x.org", "on": ["sent", "failed", "deferred"]},
    "errors": [{"detail": "d", "pointer": "/p"}],
    "source": {"topic": "t", "partition": 0, "offset": 0},
}
BULK = {
    "bulk_id": str(ID),
    "from": "a@x.org",
    "subject": "Hi {{ name }}",
    "text": "{{ name }}",
    "mails": [{"to": "ann@y.org", "name": "Ann", "variables": {"name": "Ann"}, "metadata": {"k": 1}, "id": str(ID)}],
}
FIELDS = sorted({*EmailRequested.model_fields, *RESULT, "from", "from_", "cancel", "mails", "zzz"})


def nest(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


ODD = st.sampled_from(
    [
        *(None, True, False, [], {}, [[]], [None], [{}], {"": ""}, {"\0": "\0"}, nest(31), nest(33), nest(200)),
        *("", " ", "\0", "a\0b", "\r\n", "\u2028", "\ufeff", "\U0001f4ec", "x" * 3000, "bulk", "sent", "{{", "{% if"),
        *(0, -1, 2**31, 2**53, 2**63, 2**64 - 1, 2**64, -(2**63), 10**30, 0.5, 1e300, -0.0, 5e-324),
        *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-23:59", "2026-01-01"),
        *("0001-01-01T00:00:00+14:00", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00,5Z"),
        *(str(ID), f"urn:uuid:{ID}", "{" + str(ID) + "}", ID.hex, "00000000-0000-0000-0000-000000000000", "f" * 36),
        *("a@x.org", "a@x.org, b@y.org", "a@x.org\0", "a@[127.0.0.1]", "<>", "@", "a@" + "b." * 120, '"' * 50),
        *('"a\\" b"@x.org', "\u00e4@\u00f6.example", "x" * 70 + "@x.org", "(c)a@x.org", "\U0010ffff@x.org"),
        *("=?utf-8?q?a?= <a@x.org>", "g: a@x.org;", {"address": "a@x.org", "name": {}}, {"url": "https://x", "on": []}),
        *("https://x.org/\0", "https://[::1", "https://x:99999/", "HTTP://x", "https://\u2028", "https://xn--a/"),
    ]
)
VALUES = (ODD | JSON).map(deepcopy)


@st.composite
def mutations(draw: st.DrawFn, seeds: st.SearchStrategy[dict[str, Any]]) -> bytes:
    """An object near a valid one, as JSON; now and then a few of its bytes are others."""
    data: dict[str, Any] = json.loads(json.dumps(draw(seeds)))
    for _ in range(draw(st.integers(0, 3))):
        field = draw(st.sampled_from(FIELDS))
        what = draw(st.sampled_from(["replace", "replace", "inside", "remove"]))
        if what == "replace":
            data[field] = draw(VALUES)
        elif what == "remove":
            data.pop(field, None)
        elif isinstance(data.get(field), dict):
            data[field][draw(st.sampled_from(["address", "name", "url", "on", "k", "\0"]))] = draw(VALUES)
        elif isinstance(data.get(field), list):
            data[field].append(draw(VALUES))
            if isinstance(data[field][0], dict):
                data[field][0][draw(st.sampled_from(["to", "id", "name", "variables", "metadata", "k"]))] = draw(VALUES)
    raw = json.dumps(data, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.binary(max_size=4)) + raw[at + draw(st.integers(0, 4)) :]
    return raw


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["ce_type", "ce_id", "ce_time", "traceparent", "x"]),
        st.none() | st.binary(max_size=20) | st.sampled_from([each.value.encode() for each in EventType]),
    ),
    max_size=3,
)
TIMESTAMPS = st.sampled_from([1_700_000_000_123, 0, -1, -(2**63), 2**63 - 1, 253_402_300_799_999, 253_402_300_800_000])


@st.composite
def requests(draw: st.DrawFn) -> Record:
    value = draw(st.none() | st.binary(max_size=50) | mutations(MAILS | st.just(BULK)))
    return Record("t.email.requested", 3, 41, draw(TIMESTAMPS), value, tuple(draw(HEADERS)))  # type: ignore[arg-type]


@st.composite
def results(draw: st.DrawFn) -> Record:
    event_type = draw(st.sampled_from([EventType.SENT, EventType.FAILED]))
    seed = RESULT | ({"recipients": ["ann@y.org"]} if event_type is EventType.SENT else {})
    headers = [*draw(HEADERS), ("ce_type", event_type.value.encode())]
    value = draw(st.none() | mutations(st.just(seed)))
    return Record(f"t.{event_type.value}", 3, 41, draw(TIMESTAMPS), value, tuple(headers))  # type: ignore[arg-type]


def plain(value: bytes, timestamp_ms: int = 1_700_000_000_123) -> Record:
    return Record("t.email.requested", 3, 41, timestamp_ms, value, ())


# Each reader, and all that it does with what it has read


def read_again(record: Record) -> None:
    """What can be read can be written, read back as the same, and have a digest."""
    opened = open_record(record.value, record.header("ce_type"), LIMIT)
    if opened.type is EventType.CANCELLATION_REQUESTED:
        read_cancellation(opened).to_json()
    if opened.type is EventType.REQUESTED:
        mail = read_email(opened, "cluster", record.coordinates)
        again = EmailRequested.model_validate_json(mail.to_json())
        assert again.compute_digest() == mail.compute_digest()
        assert again.to_json() == mail.to_json()
    if opened.type is EventType.BULK_REQUESTED:
        bulk = read_bulk(opened, "cluster", record.coordinates)
        assert BulkRequested.model_validate_json(bulk.to_json()) == bulk
        for mail in bulk.list_mails():
            assert EmailRequested.model_validate_json(mail.to_json()).compute_digest() == mail.compute_digest()


def send(record: Record) -> None:
    """The sender: who answers, what is stored and echoed, the message itself."""
    kafka_record = SimpleNamespace(value=record.value, headers=list(record.headers))
    ticket: Any = SimpleNamespace(event=SimpleNamespace(record=kafka_record))
    read = Intake("cluster", LIMIT, timedelta(hours=72)).read(ticket, record.coordinates)
    if isinstance(read, Refusal):
        assert 0 < len(read.event.to_json()) < 50_000
        event_id = read.event.event_id(read.record)
        build_headers(EventType.FAILED, event_id, "/s", read.record.time, None)
    elif not isinstance(read, Cancellation | Skip):
        for work in read if isinstance(read, list) else [read]:
            json.loads(orjson.dumps(work.entry.echo))
            assert work.entry.expires_at.utcoffset() == timedelta(0)
            build(work)


def build(work: Work) -> None:
    mail = work.mail
    content = RenderedContent(mail.subject, mail.text, mail.html)
    if mail.variables is not None:
        try:
            content = render_content(mail.subject, mail.text, mail.html, mail.variables)
        except TemplateError:
            return
    built = build_message(mail, content, identify(work.id, work.entry.message_id, work.entry.accepted_at))
    assert built.content.endswith(b"\r\n")


def project(record: Record) -> None:
    """The gateway: a line and a row that PostgreSQL takes."""
    for seen in observe(record, "cluster", LIMIT):
        rows: list[dict[str, Any]] = [line_to_row(seen.line, date(2026, 1, 1))]
        rows += [mail_to_row(seen.mail, date(2026, 1, 1), 1)] if seen.mail else []
        assert not has_nul(json.loads(encode(rows)))
        assert all(type(row.get("attempts", 0)) is int and row.get("attempts", 0) < 2**31 for row in rows)


def has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    inside = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return any(map(has_nul, inside))


def schedule(record: Record) -> None:
    """The scheduler: rows to keep, answers to give."""
    told: list[Message] = []

    class Store:
        async def add(self, mails: Any, cancellations: Any, kept: Any) -> list[Any]:
            for mail in mails:
                EmailRequested.model_validate_json(mail.event)
                assert datetime(1, 1, 1, tzinfo=UTC) <= mail.due_at
                assert not mail.traceparent or "\0" not in mail.traceparent
            return []

    class Bulk:
        async def add(self, rows: list[BulkRow]) -> int:
            for row in rows:
                whole = row.own if row.content is None else make_whole(row.id, row.content, row.own)
                EmailRequested.model_validate_json(whole)
                assert datetime(1, 1, 1, tzinfo=UTC) <= row.due_at
                assert not row.traceparent or "\0" not in row.traceparent
            return len(rows)

        async def cancel_mails(self, ids: list[UUID]) -> int:
            return len(ids)

    class Results:
        async def publish_all(self, messages: list[Message]) -> None:
            told.extend(messages)

    async def find_cluster_id() -> str:
        return "cluster"

    intake = SchedulerIntake(
        Store(),  # type: ignore[arg-type]
        Bulk(),  # type: ignore[arg-type]
        Results(),  # type: ignore[arg-type]
        failed_topic="f",
        find_cluster_id=find_cluster_id,
        expiry=EXPIRY,
        cancellation_kept=timedelta(hours=24),
        event_limit=LIMIT,
    )
    run(intake.handle([record]))
    assert all(len(each.value) < 50_000 for each in told)


def call_back(record: Record) -> None:
    """The callback service: requests to make."""

    class Store:
        async def add(self, planned: list[Delivery]) -> int:
            assert all("\0" not in each.url + each.account for each in planned)
            return len(planned)

    run(CallbackIntake(Store(), on_new=lambda: None, event_limit=LIMIT).handle([record]))  # type: ignore[arg-type]


def run(coroutine: Any) -> None:
    """To its end; nothing here waits for anything."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.close()


READERS: list[Callable[[Record], None]] = [read_again, send, project, schedule, call_back]


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=60)
@given(record=requests())
@example(plain(orjson.dumps({**MINIMAL, "send_at": "9999-12-31T23:59:59Z"})))
@example(
    plain(orjson.dumps({**MINIMAL, "send_at": "9999-12-31T23:59:59Z", "priority": "bulk", "metadata": {"a": "\0"}}))
)
@example(plain(orjson.dumps({**MINIMAL, "send_at": "0001-01-01T00:00:00Z", "expires_at": "0001-01-01T00:00:00Z"})))
@example(plain(orjson.dumps({**MINIMAL, "template": {"name": "\0", "version": 1e300}})))
@example(plain(orjson.dumps(MINIMAL), 2**63 - 1))
@example(plain(orjson.dumps({**MINIMAL, "priority": "bulk"}), -(2**63)))
@example(plain(b'{"cancel": true}', 2**62))
def test_a_reader_of_requests_ends_with_an_answer(reader: Callable[[Record], None], record: Record) -> None:
    try:
        reader(record)
    except UnreadableEvent as exc:
        assert exc.errors
        assert reader is read_again


@pytest.mark.parametrize("reader", [project, call_back])
@settings(max_examples=60)
@given(record=results())
def test_a_reader_of_results_ends_with_an_answer(reader: Callable[[Record], None], record: Record) -> None:
    reader(record)


@given(TIMES, st.sampled_from(["send_at", "expires_at", "requested_at"]), TIMESTAMPS)
def test_any_time_a_mail_names_can_be_kept(time: str, field: str, timestamp_ms: int) -> None:
    for reader in READERS:
        try:
            reader(plain(orjson.dumps({**MINIMAL, "id": str(UUID(int=7)), field: time}), timestamp_ms))
        except UnreadableEvent:
            assert reader is read_again
