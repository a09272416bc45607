"""What labels and tallies must say, worked out anew from the read model's mails."""

from collections import Counter
from datetime import datetime
from typing import Any

from services.gateway.store import decode
from shared.addresses import fold_domain
from shared.database import Database
from shared.states import MailStatus


async def check_listed(database: Database) -> None:
    """Every label and every count follows from the mails there are, and none is missing."""
    await check_labels(database)
    mails = await _read_mails(database)
    assert await read_tallies(database) == Counter(place for mail in mails for place in _count(mail))


async def check_labels(database: Database) -> None:
    """Every label follows from the mails there are, and none is missing."""
    mails = await _read_mails(database)
    labels = await database.fetch("SELECT bucket, account, kind, value, created_at, id FROM gateway.labels")
    assert Counter(tuple(row) for row in labels) == Counter(label for mail in mails for label in _label(mail))


async def read_tallies(database: Database) -> dict[tuple[str, str, str, datetime, str], int]:
    """By account, tag, resolution, beginning and status; what is 0 is left out."""
    rows = await database.fetch("SELECT * FROM gateway.tallies")
    return {
        (row["account"], row["tag"], row["resolution"], row["start"], status.value): row[status.value]
        for row in rows
        for status in MailStatus
        if row[status.value]
    }


async def _read_mails(database: Database) -> list[dict[str, Any]]:
    return [decode(row) for row in await database.fetch("SELECT * FROM gateway.emails")]


def _label(mail: Any) -> list[tuple[Any, ...]]:
    addresses = mail["addressees"]["all"] if mail["addressees"] else []
    told = [("recipient", fold_domain(each)) for each in addresses]
    told += [("tag", each) for each in set(mail["tags"] or ())]
    return [(mail["bucket"], mail["account"], *each, mail["created_at"], mail["id"]) for each in told]


def _count(mail: Any) -> list[tuple[str, str, str, datetime, str]]:
    minute = mail["created_at"].replace(second=0, microsecond=0)
    spans = [("minute", minute), ("hour", minute.replace(minute=0))]
    return [(mail["account"], tag, *span, mail["status"]) for tag in {"", *(mail["tags"] or ())} for span in spans]
