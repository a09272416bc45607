"""The mails of every scenario: 2 kB multipart, one recipient; on the topic, in a file, or as bulk events."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
from aiokafka import AIOKafkaProducer

from shared.events import new_email_id

RECIPIENTS_PER_BULK = 100
_SENDER = "no-reply@example.com"
_PARAGRAPH = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor.\n"
_TEXT, _HTML = _PARAGRAPH * 10, f"<p>{_PARAGRAPH * 13}</p>"

Record = tuple[bytes, bytes]
"""Key and value."""


def make_mail(number: int) -> dict[str, Any]:
    """A 2 kB multipart mail to one recipient."""
    return {
        "id": str(new_email_id()),
        "from": _SENDER,
        "to": [f"user{number}@example.org"],
        "subject": f"Your order {number} is on its way",
        "text": _TEXT,
        "html": _HTML,
    }


def make_body() -> dict[str, Any]:
    """The same mail as an application posts it."""
    body = make_mail(1)
    del body["id"]
    return body


def make_single(number: int) -> Record:
    """A mail as it lies on `email.requested`."""
    mail = make_mail(number)
    return mail["id"].encode(), orjson.dumps(mail)


def make_bulk(number: int) -> Record:
    """The same content as templates, once for RECIPIENTS_PER_BULK recipients, each with variables of its own."""
    bulk_id: UUID = uuid4()
    first = number * RECIPIENTS_PER_BULK
    event = {
        "bulk_id": str(bulk_id),
        "from": _SENDER,
        "subject": "Your order {{ order }} is on its way",
        "text": "Dear {{ name }},\n" + _TEXT,
        "html": "<p>Dear {{ name }},</p>" + _HTML,
        "mails": [
            {"to": f"user{each}@example.org", "variables": {"name": f"User {each}", "order": each}}
            for each in range(first, first + RECIPIENTS_PER_BULK)
        ],
    }
    return str(bulk_id).encode(), orjson.dumps(event)


async def publish_records(bootstrap_servers: str, topic: str, count: int, make: Callable[[int], Record]) -> None:
    """Put records on the topic and wait for every acknowledgement."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        linger_ms=5,
        acks="all",
        compression_type="lz4",
        max_batch_size=1 << 17,
        max_request_size=1 << 20,
    )
    await producer.start()
    try:
        acks = []
        for number in range(count):
            key, value = make(number)
            acks.append(await producer.send(topic, value, key=key))
        for ack in acks:
            await ack
    finally:
        await producer.stop()


async def publish_mails(bootstrap_servers: str, topic: str, count: int) -> None:
    """Put single mails on the topic."""
    await publish_records(bootstrap_servers, topic, count, make_single)


@contextmanager
def write_mails(count: int) -> Iterator[Path]:
    """A file with the mails, JSON, one a line, in a folder of its own: for yardsticks that run apart."""
    with tempfile.TemporaryDirectory(prefix="milena-bench-") as folder:
        file = Path(folder) / "mails.jsonl"
        with file.open("w") as lines:
            lines.writelines(json.dumps(make_mail(number)) + "\n" for number in range(count))
        yield file
