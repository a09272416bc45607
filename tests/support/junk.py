"""Everything a topic that takes anything may hold: what must be refused, and what is odd and yet a mail."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

Headers = Sequence[tuple[str, bytes | None]]

MAIL: dict[str, Any] = {"from": "no-reply@example.com", "to": ["ann@example.org"], "subject": "Hello", "text": "Hi"}


@dataclass(frozen=True)
class Junk:
    """One record. `answered_by` is the ce_source that must refuse it; None: it is skipped and counted."""

    name: str
    value: bytes | None
    headers: Headers = ()
    answered_by: str | None = "/milena/sender"


def write(change: dict[str, Any], **more: Any) -> bytes:
    """A mail with some fields replaced, as JSON."""
    return json.dumps(MAIL | change | more, separators=(",", ":")).encode()


def nest(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """JSON that many levels deep."""
    return opening * depth + b"1" + closing * depth


_RESULTS = (b"email.sent", b"email.failed")


def _forge(live_id: str, event_type: bytes) -> bytes:
    """A result of a mail, as only its sender may tell it."""
    result: dict[str, Any] = {"id": live_id, "attempt": 9, "outstanding": 0, "complete": True}
    if event_type == b"email.sent":
        result |= {"recipients": ["ann@example.org"], "message_id": "<m@x>", "relay": "r", "response": "250 ok"}
        return json.dumps(result | {"sent_at": "2026-01-01T00:00:00Z"}).encode()
    return json.dumps(result | {"recipients": [{"address": "x@y.org"}], "reason": "rejected", "final": True}).encode()


def _deep(field: str, depth: int) -> Junk:
    inside = nest(depth, b'{"k":', b"}")
    return Junk(f"{field} {depth} deep", write({})[:-1] + b', "%s": %b}' % (field.encode(), inside))


def collect_junk(live_id: str) -> list[Junk]:
    """Records to be refused. Several claim the id of a mail that is somebody's."""
    unreadable = {
        "tombstone": None,
        "empty": b"",
        "not JSON": b"hello",
        "half": write({})[:-5],
        "not UTF-8": b'{"subject": "\xff\xfe"}',
        "UTF-16": write({}).decode().encode("utf-16"),
        "byte order mark": b"\xef\xbb\xbf" + write({}),
        "array": b"[1]",
        "number": b"5",
        "text": b'"mail"',
        "null": b"null",
        "NaN": write({})[:-1] + b', "metadata": {"n": NaN}}',
        "number beyond a float": write({})[:-1] + b', "metadata": {"n": 1e999}}',
        "lone surrogate": write({})[:-1] + b', "html": "\\ud800"}',
        "2,000 brackets": nest(2_000),
        "100,000 braces": nest(100_000, b'{"a":', b"}"),
        "over the limit": write({}, text="x" * 1_048_577),
        "nothing": b"{}",
        "no subject": json.dumps({name: MAIL[name] for name in ("from", "to", "text")}).encode(),
    }
    wrong: dict[str, dict[str, Any]] = {
        "from": {"from": "nobody"},
        "to number": {"to": 5},
        "to nothing": {"to": []},
        "to null": {"to": None},
        "to objects": {"to": {"a": 1}},
        "to spaces": {"to": " " * 1_000_000},
        "to comments": {"to": ['"a" ' * 90 + f"<a{n}@example.org>" for n in range(1_500)]},
        "to 100,000": {"to": [f"{n:x}@x" for n in range(100_000)]},
        "to 1,001": {"to": [f"a{n}@example.org" for n in range(1_001)]},
        "bcc line break": {"bcc": ["a@example.org\r\nX: y"]},
        "subject line break": {"subject": "a\nBcc: b@example.org"},
        "subject array": {"subject": ["a"]},
        "text number": {"text": 5},
        "headers owned": {"headers": {"Message-ID": "<x>"}},
        "headers nested": {"headers": {"X": {"a": 1}}},
        "attachment": {"attachments": [{"filename": "a", "content": "!"}]},
        "attachments 100,000": {"attachments": [0] * 100_000},
        "metadata large": {"metadata": {"a": "x" * 9_000}},
        "metadata array": {"metadata": [1]},
        "tags": {"tags": [5]},
        "callback": {"callback": "file:///etc/passwd"},
        "account": {"account": "a\0b"},
        "expires_at": {"expires_at": "soon"},
        "expires_at number": {"expires_at": 1e300},
        "expires_at year 10000": {"expires_at": "10000-01-01T00:00:00Z"},
        "expires_at beyond": {"expires_at": "9999-12-31T23:59:59-14:00"},
        "template": {"template": {"name": "a", "version": 2**63}},
        "retry_of": {"retry_of": 5},
        "on_unknown": {"on_unknown": "maybe"},
        "priority": {"priority": ["bulk"]},
        "priority upper case": {"priority": "BULK"},
        "test": {"test": "perhaps"},
        "id": {"id": "not an id"},
        "id number": {"id": 2**63},
        "id of somebody": {"id": live_id, "to": 5},
        "id of somebody, no content": {"id": live_id, "text": None},
        "mailing_id": {"mailing_id": "a\0"},
    }
    later: dict[str, dict[str, Any]] = {
        "send_at": {"send_at": "tomorrow"},
        "send_at number": {"send_at": 5},
        "send_at false": {"send_at": False},
        "send_at without zone": {"send_at": "2026-01-01T00:00:00"},
        "send_at year 0": {"send_at": "0000-01-01T00:00:00Z"},
        "send_at of somebody": {"send_at": "tomorrow", "id": live_id},
        "bulk of somebody": {"priority": "bulk", "id": live_id, "to": 5},
        "bulk without subject": {"priority": "bulk", "subject": None},
    }
    cancel: dict[str, dict[str, Any]] = {
        "cancel nobody": {"cancel": True},
        "cancel no id": {"cancel": True, "id": "x"},
        "cancel wrong account": {"cancel": True, "id": live_id, "account": 5},
        "bulk event": {"mails": 5},
        "bulk event of somebody": {"mails": [], "bulk_id": live_id, "id": live_id},
    }
    unknown = [("ce_type", b"org.example.unheard_of")]
    as_cancellation = [("ce_type", b"email.cancellation_requested")]
    return [
        *(Junk(name, value) for name, value in unreadable.items()),
        *(Junk(name, write(change)) for name, change in wrong.items()),
        *(Junk(name, write(change), answered_by="/milena/scheduler") for name, change in later.items()),
        *(Junk(name, json.dumps(value).encode()) for name, value in cancel.items()),
        *(_deep(field, depth) for field in ("metadata", "variables") for depth in (40, 200, 300, 1_000)),
        Junk("a mail called a cancellation", write({}), as_cancellation),
        Junk("unknown type", write({}), unknown, answered_by=None),
        Junk("unknown type of somebody", write({}, id=live_id, to=5), unknown, answered_by=None),
        Junk("type that is no text", write({}), [("ce_type", b"\xff\x00")], answered_by=None),
        Junk("a result's type", write({}, id=live_id), [("ce_type", b"email.sent")], answered_by=None),
        *(Junk("a result", _forge(live_id, name), [("ce_type", name)], answered_by=None) for name in _RESULTS),
    ]


def collect_odd_mails() -> list[tuple[bytes, Headers]]:
    """Mails that look like junk and must be sent; `@odd@` stands where the recipient belongs."""
    to = {"to": ["@odd@"]}
    changes: list[dict[str, Any]] = [
        {},
        {"metadata": {"a\0": "\0", "n": 2**64 - 1, "f": 1e308, "deep": json.loads(nest(20))}},
        {"text": "a\0b", "html": "<p>\0</p>"},
        {"subject": "x" * 50_000},
        {"expires_at": "9999-12-31T23:59:59Z", "requested_at": "0001-01-01T00:00:00Z"},
        {"send_at": (datetime.now(UTC) - timedelta(hours=1)).isoformat()},
        {"send_at": None, "metadata": {}, "callback": ""},
        {"from": {"address": "no-reply@example.com", "name": "\U0001f4ec" * 1000}},
        {"cancel": False, "zzz": {"a": [1] * 10_000}},
    ]
    headers: list[Headers] = [
        [("traceparent", b"\xff\x00junk"), ("ce_time", b"yesterday"), ("ce_id", b"\x00" * 50)],
        [("ce_type", None), ("ce_type", b"email.requested")],
        [("ce_type", b""), ("x" * 10_000, b"\xff" * 10_000)],
        [(f"h{number}", b"v") for number in range(1_000)],
    ]
    deep = write(to)[:-1] + b', "unknown": %b}' % nest(1_000)
    twice = write(to)[:-1] + b', "subject": "again"}'
    plain: list[tuple[bytes, Headers]] = [(write(to | change), ()) for change in changes]
    return [*plain, *((write(to), each) for each in headers), (deep, ()), (twice, ())]
