"""The statements that tell how mailings stand, and who got their mail: no count ever reads the mails that were sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.scheduler.mailings.mailing import MailingState
from services.scheduler.mailings.reasons_store import FAILING
from services.scheduler.mailings.standing import MailingStanding
from services.scheduler.mailings.states import KEPT_AS, MessageState, Standing, show_state
from services.scheduler.pacing.states import BulkState
from shared.database import Database

_COUNTS = ", ".join(f"coalesce(lane.{state}, 0) AS {state}" for state in BulkState)
_STANDING = f"""
    SELECT mailing.id, mailing.name, mailing.state AS stands, mailing.started_at, mailing.finished_at, now() AS now,
           mailing.created_at, {_COUNTS},
           (SELECT count(*) FROM scheduler.unsubscription AS gone WHERE gone.mailing = mailing.id) AS unsubscribed
    FROM scheduler.mailing AS mailing LEFT JOIN scheduler.bulk_lane AS lane ON lane.id = mailing.lane
"""
_FIRST = UUID(int=0)
"""No recipient: ids are derived."""
_IN_INDEX = (MessageState.FAIL, MessageState.SKIPPED)


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


class StandingStore:
    """Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, ids: Sequence[UUID]) -> dict[UUID, MailingStanding]:
        """How these mailings stand."""
        rows = await self._database.fetch(f"{_STANDING} WHERE mailing.id = ANY($1::uuid[])", ids)
        return {row["id"]: _read_standing(row) for row in rows}

    async def list_page(
        self, account: str, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[tuple[MailingStanding, datetime]]:
        """An account's mailings, newest first, after a position; each with when it was made."""
        rows = await self._database.fetch(
            f"""
            {_STANDING} WHERE mailing.account = $1
              AND ($2::timestamptz IS NULL OR (mailing.created_at, mailing.id) < ($2, $3::uuid))
            ORDER BY mailing.created_at DESC, mailing.id DESC LIMIT $4
            """,
            account,
            *(after or (None, None)),
            limit,
        )
        return [(_read_standing(row), row["created_at"]) for row in rows]

    async def sum_up(self, account: str) -> tuple[int, dict[BulkState, int]]:
        """How many mailings an account has, and their counters together."""
        sums = ", ".join(f"coalesce(sum(lane.{state}), 0)::bigint AS {state}" for state in BulkState)
        [row] = await self._database.fetch(
            f"""
            SELECT count(*) AS mailings, {sums} FROM scheduler.mailing AS mailing
            LEFT JOIN scheduler.bulk_lane AS lane ON lane.id = mailing.lane WHERE mailing.account = $1
            """,
            account,
        )
        return row["mailings"], {state: row[state.value] for state in BulkState}

    async def list_recipients(
        self,
        mailing_id: UUID,
        state: MessageState | None,
        reason: str | None,
        after: UUID | None,
        limit: int,
    ) -> list[MailingRecipient]:
        """Recipients by id, from beyond `after`; of one state or reason, where one is given."""
        kept = _choose(state, reason)
        narrowed = f"AND {FAILING}" if state in _IN_INDEX or reason else ""
        rows = await self._database.fetch(
            f"""
            SELECT mail.*, coalesce(contact.address, entry.address) AS address,
                   coalesce(contact.name, entry.name) AS name
            FROM (SELECT mail.recipient, mail.id, mail.state, mail.reason, mail.detail, mail.round, mail.handed_at,
                         mail.ended_at
                  FROM scheduler.bulk_mail AS mail
                  WHERE mail.lane = (SELECT lane FROM scheduler.mailing WHERE id = $1)
                    AND mail.recipient IS NOT NULL AND mail.recipient > $2
                    AND ($3::text[] IS NULL OR mail.state = ANY($3::text[]))
                    AND ($4::text IS NULL OR mail.reason = $4
                         OR mail.reason IS NULL AND mail.state = ANY($5::text[])) {narrowed}
                  ORDER BY mail.recipient LIMIT $6) AS mail
            LEFT JOIN scheduler.mailing ON mailing.id = $1
            LEFT JOIN scheduler.mailing_list_entry AS entry
                   ON entry.list = mailing.list AND entry.recipient = mail.recipient
            LEFT JOIN scheduler.contact AS contact ON mailing.list IS NULL AND contact.id = mail.recipient
            ORDER BY mail.recipient
            """,
            mailing_id,
            after or _FIRST,
            kept,
            reason,
            [each for each in BulkState if reason and show_state(each, None).reason == reason],
            limit,
        )
        return list(map(_read_recipient, rows))


def _choose(state: MessageState | None, reason: str | None) -> list[BulkState] | None:
    """The kept states to look for; what was sent in the end keeps no reason that would be shown."""
    if state:
        return list(KEPT_AS[state])
    return [kept for each in _IN_INDEX for kept in KEPT_AS[each]] if reason else None


def _read_standing(row: Any) -> MailingStanding:
    counts = {state: row[state.value] for state in BulkState}
    return MailingStanding(
        row["id"],
        row["name"],
        MailingState(row["stands"]),
        counts,
        row["unsubscribed"],
        row["started_at"],
        row["finished_at"],
        row["now"],
    )


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
