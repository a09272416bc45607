"""Mails in every state, written onto the topics as a publisher and the services would, with plain aiokafka."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaProducer

from tests.support.stack import Stack

Put = tuple[str, str | None, bytes]
"""Topic (requested, sent, failed), key and value."""


@dataclass(frozen=True)
class Story:
    """A mail's records in order, and the state they lead to."""

    state: str
    id: str
    records: list[Put] = field(default_factory=list)


def tell_stories() -> list[Story]:
    """One mail for each state, and one of two contents under one id."""
    return [tell(state) for state in TELLERS]


def tell(state: str) -> Story:
    """A new mail that comes to `state` (or `rivals`, which is sent)."""
    email_id = str(uuid4())
    return Story("sent" if state == "rivals" else state, email_id, list(TELLERS[state](email_id)))


def request(email_id: str, **fields: Any) -> Put:
    body = {"id": email_id, "from": "s@x.org", "to": "a@x.org, b@x.org", "subject": "s", "text": "t", **fields}
    return ("requested", email_id, json.dumps(body).encode())


def sent(email_id: str, *recipients: str, **fields: Any) -> Put:
    body = {
        **{"id": email_id, "attempt": 1, "recipients": recipients, "message_id": f"<{email_id}@x.org>"},
        **{"relay": "relay:25", "response": "250 2.0.0 Ok", "sent_at": "2026-01-01T00:00:00Z", "outstanding": 0},
        **fields,
    }
    return ("sent", email_id, json.dumps(body).encode())


def failed(email_id: str | None, reason: str, *recipients: str, final: bool = True, **fields: Any) -> Put:
    told = [{"address": each, "diagnostic": f"{reason}, said the relay"} for each in recipients]
    body = {"id": email_id, "attempt": 1, "recipients": told, "reason": reason, "final": final, **fields}
    return ("failed", email_id, json.dumps(body).encode())


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


BOTH = ("a@x.org", "b@x.org")
TELLERS: dict[str, Callable[[str], Iterator[Put]]] = {
    "queued": lambda i: iter([request(i)]),
    "scheduled": lambda i: iter([request(i, send_at=in_an_hour())]),
    "deferred": lambda i: iter([request(i), failed(i, "deferred", *BOTH, final=False, retry_at=in_an_hour())]),
    "sent": lambda i: iter([request(i), sent(i, *BOTH, complete=True), sent(i, *BOTH, complete=True)]),
    "partially_sent": lambda i: iter([request(i), sent(i, "a@x.org"), failed(i, "rejected", "b@x.org", complete=True)]),
    "failed": lambda i: iter([request(i), failed(i, "rejected", *BOTH, complete=True)]),
    "cancelled": lambda i: iter(
        [
            request(i, send_at=in_an_hour()),
            ("requested", i, json.dumps({"id": i, "cancel": True}).encode()),
            failed(i, "cancelled", *BOTH, attempt=0, complete=True),
        ]
    ),
    "expired": lambda i: iter([request(i), failed(i, "expired", *BOTH, complete=True)]),
    "unknown": lambda i: iter([request(i), failed(i, "unknown", *BOTH, final=False)]),
    "rivals": lambda i: iter([request(i), request(i, subject="other"), sent(i, *BOTH)]),
}
JUNK: list[Put] = [
    ("requested", None, b"not json"),
    ("requested", None, b""),
    ("sent", None, b"\xff\xfe"),
    ("sent", None, b'{"id": 3}'),
    ("failed", None, b"[[[["),
    ("requested", None, json.dumps({"id": str(uuid4()), "cancel": True}).encode()),
]


async def put(stack: Stack, records: Sequence[Put]) -> list[Any]:
    """Publish in order; gives where each record lies (aiokafka's metadata)."""
    producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers)
    await producer.start()
    try:
        acks = [
            await producer.send(
                getattr(stack.topics, topic),
                value,
                key=key.encode() if key else None,
                headers=None if topic == "requested" else [("ce_type", f"email.{topic}".encode())],
            )
            for topic, key, value in records
        ]
        return [await ack for ack in acks]
    finally:
        await producer.stop()


async def put_refused(stack: Stack) -> None:
    """A request nobody can read, and the sender's answer to it."""
    (place,) = await put(stack, [("requested", None, b'{"from": "nobody"}')])
    source = {"topic": stack.topics.requested, "partition": place.partition, "offset": place.offset}
    await put(stack, [failed(None, "invalid_request", source=source, errors=[])])


async def put_aborted(stack: Stack) -> None:
    """Records of an aborted transaction at the end of partitions: nobody may read them, and nothing follows them."""
    producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers, transactional_id=uuid4().hex)
    await producer.start()
    try:
        await producer.begin_transaction()
        for partition in range(3):
            _, _, value = request(str(uuid4()))
            await producer.send_and_wait(stack.topics.requested, value, partition=partition)
            await producer.send_and_wait(stack.topics.sent, value, partition=partition)
        await producer.abort_transaction()
    finally:
        await producer.stop()
