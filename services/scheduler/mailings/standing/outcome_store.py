"""The statements that tell who got a mailing: its recipients, by how their mail stands.

Each question is answered through an index, however many recipients there are of whom it is not asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.scheduler.mailings.states import LEFT, WAITING, MessageState, Standing, read_fate, show_state
from services.scheduler.pacing.states import BulkState
from shared.database import Database

_FIRST = UUID(int=0)
"""No recipient: ids are derived."""


@dataclass(frozen=True, slots=True)
class MailingRecipient:
    """A recipient, and how his mail stands. No address: the contact was erased, or the list deleted."""

    recipient: UUID
    address: str | None
    name: str | None
    standing: Standing
    detail: str | None
    round: int
    email_id: UUID
    handed_at: datetime | None
    ended_at: datetime | None


class OutcomeStore:
    """Every method raises DatabaseUnavailable. `audiences` plans each statement for its own values."""

    def __init__(self, audiences: Database) -> None:
        self._database = audiences

    async def list_recipients(
        self, mailing_id: UUID, state: MessageState | None, reason: str | None, after: UUID | None, limit: int
    ) -> list[MailingRecipient]:
        """Recipients by id, from beyond `after`; of one state or reason, where one is given."""
        position = after or _FIRST
        if state is None and reason is None:
            return await self._fetch(_ALL, mailing_id, position, limit)
        place = await self._database.fetch(_PLACE, mailing_id)
        if not place:
            return []
        lane = place[0]["lane"]
        if state is not MessageState.PENDING:
            fates = await self._choose(lane, state, reason)
            return await self._fetch(_SOME, mailing_id, position, limit, lane, fates)
        if reason or not place[0]["unheard"]:
            return []
        return await self._fetch(_PENDING, mailing_id, position, limit, lane, [WAITING], place[0]["since"])

    async def _choose(self, lane: int, state: MessageState | None, reason: str | None) -> Sequence[str]:
        """The fates of those that are asked for, of those there are."""
        found = [row["fate"] for row in await self._database.fetch(_FATES, lane, WAITING)]
        chosen = [fate for fate in found if _is_asked(show_state(*read_fate(fate)), state, reason)]
        return [LEFT, *chosen] if state is MessageState.SUCCESS and reason is None else chosen

    async def _fetch(self, statement: str, *args: Any) -> list[MailingRecipient]:
        return list(map(_read_recipient, await self._database.fetch(statement, *args)))


def _is_asked(standing: Standing, state: MessageState | None, reason: str | None) -> bool:
    return state in (None, standing.state) and reason in (None, standing.reason)


_COLUMNS = "mail.recipient, mail.id, mail.state, mail.reason, mail.detail, mail.round, mail.handed_at, mail.ended_at"
_NAMED = """
    SELECT mail.*, coalesce(contact.address, entry.address) AS address, coalesce(contact.name, entry.name) AS name
    FROM ({mails} ORDER BY recipient LIMIT $3) AS mail
    LEFT JOIN scheduler.mailing ON mailing.id = $1
    LEFT JOIN scheduler.mailing_list_entry AS entry
           ON entry.list = mailing.list AND entry.recipient = mail.recipient
    LEFT JOIN scheduler.contact AS contact ON mailing.list IS NULL AND contact.id = mail.recipient
    ORDER BY mail.recipient
"""
_ALL = _NAMED.format(
    mails=f"""
    SELECT {_COLUMNS} FROM scheduler.bulk_mail AS mail
    WHERE mail.lane = (SELECT lane FROM scheduler.mailing WHERE id = $1) AND mail.recipient > $2
    """
)
# Since when mail may be queued, and whether any is, or waits. Asked for apart: planned without knowing the lane and the
# time, the statement would read the table.
_PLACE = """
    SELECT lane.id AS lane, lane.pending + lane.queued > 0 AS unheard,
           CASE WHEN lane.queued > 0 THEN lane.flying_since ELSE now() - interval '1 min' END AS since
    FROM scheduler.mailing JOIN scheduler.bulk_lane AS lane ON lane.id = mailing.lane WHERE mailing.id = $1
"""
# Those that failed have few fates: it goes from one to the next.
_FATES = """
    WITH RECURSIVE known AS (
        SELECT $2::text COLLATE "C" AS fate
        UNION ALL
        SELECT (SELECT mail.fate FROM scheduler.bulk_mail AS mail
                WHERE mail.lane = $1 AND mail.fate > known.fate ORDER BY mail.fate LIMIT 1)
        FROM known WHERE known.fate IS NOT NULL)
    SELECT fate FROM known WHERE fate > $2
"""
# A page of each fate, and of those the page.
_OF_FATES = f"""
    SELECT mail.* FROM unnest($5::text[]) AS wanted(fate) CROSS JOIN LATERAL (
        SELECT {_COLUMNS} FROM scheduler.bulk_mail AS mail
        WHERE mail.lane = $4 AND mail.fate = wanted.fate AND mail.recipient > $2 AND mail.state <> 'queued'
        ORDER BY mail.recipient LIMIT $3) AS mail
"""
_SOME = _NAMED.format(mails=f"SELECT * FROM ({_OF_FATES}) AS chosen")
# What is queued is found as what has left and had no result.
_PENDING = f"""
    WITH queued AS MATERIALIZED (
        SELECT {_COLUMNS} FROM scheduler.bulk_mail AS mail
        WHERE mail.lane = $4 AND mail.handed_at >= $6 AND mail.state = 'queued' AND mail.recipient IS NOT NULL)
    {_NAMED.format(mails=f"SELECT * FROM ({_OF_FATES} UNION ALL SELECT * FROM queued WHERE recipient > $2) AS chosen")}
"""


def _read_recipient(row: Any) -> MailingRecipient:
    standing = show_state(BulkState(row["state"]), row["reason"])
    return MailingRecipient(
        recipient=row["recipient"],
        address=row["address"],
        name=row["name"],
        standing=standing,
        detail=row["detail"] if standing.reason else None,
        round=row["round"],
        email_id=row["id"],
        handed_at=row["handed_at"],
        ended_at=row["ended_at"],
    )
