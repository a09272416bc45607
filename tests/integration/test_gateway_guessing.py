"""What the worker writes without reading first is what it would have written had it read (projection.py's rules)."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.gateway.company import Company
from services.gateway.projection import Mail
from services.gateway.worker import Projector
from shared.batching import Record
from shared.database import Database
from shared.events import (
    EmailFailed,
    EmailRequested,
    EmailSent,
    EventType,
    FailedRecipient,
    RecipientOutcome,
    build_headers,
    new_email_id,
)
from shared.kafka_access import KafkaAccess
from shared.states import FailureReason, RecipientState
from tests.support.listed import check_listed

START = datetime.now(UTC).replace(microsecond=0)
ONE, THREE = "a@x.org", "a@x.org, b@x.org, c@x.org"
PACED: list[dict[str, Any]] = [
    {"paced": True},
    {"paced": True, "to": THREE},
    {"paced": True, "metadata": {"no": "text\0"}},
]


class Careful(Projector):
    """Reads every mail before it writes it."""

    async def _guess(self, mails: dict[UUID, Mail], buckets: Mapping[UUID, date]) -> dict[UUID, Mail]:
        return mails


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


def make_record(event: Any, kind: EventType, email_id: UUID, offset: int, at: datetime) -> Record:
    headers = build_headers(kind, email_id, "/milena/test", at, None)
    return Record(kind.value, 0, offset, int(at.timestamp() * 1000), event.to_json(), tuple(headers))


def request(email_id: UUID, **fields: Any) -> EmailRequested:
    said = {"id": str(email_id), "from": "s@x.org", "to": ONE, "subject": "s", "text": "t", **fields}
    return EmailRequested.model_validate(said)


def result(email_id: UUID, digest: str, chance: random.Random) -> EmailSent | EmailFailed:
    address = chance.choice(["a@x.org"] * 4 + ["b@x.org"])
    final, complete = chance.random() < 0.8, chance.random() < 0.8
    fields: dict[str, Any] = {
        "id": email_id,
        "attempt": chance.choice([0, 1, 2]),
        "outstanding": 0,
        "complete": complete and final,
        "digest": chance.choice([digest] * 4 + ["", "f" * 32]),
        "paced": chance.random() < 0.5,
    }
    if chance.random() < 0.6:
        outcomes = [RecipientOutcome(address=address, state=RecipientState.SENT, attempt=fields["attempt"])]
        said = {"message_id": "<m@x.org>", "relay": "main", "response": "250 ok", "sent_at": START}
        return EmailSent(**fields, **said, recipients=[address], outcomes=outcomes if complete else None)
    told = FailedRecipient(address=address, smtp_code=550, diagnostic="no")
    reason = chance.choice([FailureReason.REJECTED, FailureReason.CANCELLED, FailureReason.INVALID_REQUEST])
    return EmailFailed(**fields, recipients=[told], reason=reason, final=final)


def draw_records(chance: random.Random, mails: int) -> list[Record]:
    """For each mail a request, mostly, perhaps once more, held, or another; and results. Nearly in order."""
    records: list[tuple[float, Record]] = []
    for number in range(mails):
        email_id = new_email_id()
        event = request(email_id, **chance.choice([{}, {}, {"to": THREE}, {"priority": "bulk"}, *PACED]))
        events: list[tuple[EventType, Any]] = [(EventType.REQUESTED, event)] if chance.random() < 0.9 else []
        if chance.random() < 0.2:
            events.append((EventType.REQUESTED, request(email_id, subject=chance.choice(["s", "other"]))))
        for _ in range(chance.choice([0, 1, 1, 1, 2])):
            told = result(email_id, event.compute_digest(), chance)
            events.append((EventType.SENT if isinstance(told, EmailSent) else EventType.FAILED, told))
        for place, (kind, each) in enumerate(events):
            at = START + timedelta(seconds=chance.choice([-1, 0, place]))
            record = make_record(each, kind, email_id, 10 * number + place, at)
            records += [(chance.random() + place, record)] * chance.choice([1, 1, 2])
    return [record for _, record in sorted(records, key=lambda each: each[0])]


async def take(database: Database, projector: Projector, batches: list[list[Record]]) -> list[dict[str, Any]]:
    await database.fetch("DELETE FROM gateway.emails")
    owed: object = None
    for batch in batches:
        owed = await projector.project(batch)
    while owed:
        await asyncio.sleep(0.1)
        owed = await projector.project([])
    rows = await database.fetch("SELECT * FROM gateway.emails ORDER BY id")
    await check_listed(database)
    return [{name: value for name, value in row.items() if name != "version"} for row in rows]


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_guess_writes_what_reading_would_have_written(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    records = draw_records(chance, 150)
    batches: list[list[Record]] = []
    while records:
        size = chance.choice([1, 20, 60])
        batches, records = [*batches, records[:size]], records[size:]
    options: dict[str, Any] = {"kafka": KafkaAccess(""), "event_limit": 1024 * 1024, "cluster_id": "cluster"}
    read = await take(database, Careful(database, **options), batches)
    company = Company(timedelta(seconds=0.3))
    for projector in (Projector(database, **options), Projector(database, **options, company=company)):
        guessed = await take(database, projector, batches)
        assert [row["id"] for row in guessed] == [row["id"] for row in read]
        pairs = [(one, other, name) for one, other in zip(guessed, read, strict=True) for name in one]
        assert [
            (one[name], other[name], name, one["id"]) for one, other, name in pairs if one[name] != other[name]
        ] == []
    assert len(Counter(row["status"] for row in read)) >= 4


async def test_an_ordinary_mail_is_never_read(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    projector = Projector(database, kafka=KafkaAccess(""), event_limit=1024 * 1024, cluster_id="cluster")

    async def refuse(*_: object) -> None:
        raise AssertionError("was read")

    monkeypatch.setattr(projector._store, "load", refuse)
    email_id, chance = new_email_id(), random.Random(0)
    asked = request(email_id)
    ended = result(email_id, asked.compute_digest(), chance)
    while not ended.complete or ended.digest != asked.compute_digest() or not isinstance(ended, EmailSent):
        ended = result(email_id, asked.compute_digest(), chance)
    ended = ended.model_copy(update={"recipients": [ONE], "outcomes": None})
    await projector.project([make_record(asked, EventType.REQUESTED, email_id, 1, START)])
    await projector.project([make_record(ended, EventType.SENT, email_id, 1, START)])
    (row,) = await database.fetch("SELECT status, complete, version FROM gateway.emails")
    assert tuple(row) == ("sent", True, 2)
