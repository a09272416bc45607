"""The statements that tell how mailings stand, and who got their mail: no count ever reads the mails that were sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.scheduler.mailings.mailing import MailingState
from services.scheduler.mailings.standing import MailingStanding
from services.scheduler.mailings.states import KEPT_AS, MessageState, Standing, show_state
from services.scheduler.pacing.pace import Pace
from services.scheduler.pacing.states import BulkState
from shared.database import Database

_COUNTS = ", ".join(f"coalesce(lane.{state}, 0) AS {state}" for state in BulkState)
_STANDING = f"""
    SELECT mailing.id, mailing.account, mailing.test, mailing.revision, mailing.name, mailing.state AS stands,
           mailing.created_at, greatest(mailing.changed_at, lane.changed_at) AS changed_at, mailing.started_at,
           mailing.frozen_at, mailing.finished_at, mailing.pace, mailing.sampled_at, mailing.sampled_ended,
           now() AS now, {_COUNTS},
           (SELECT count(*) FROM scheduler.unsubscription AS gone WHERE gone.mailing = mailing.id) AS unsubscribed
    FROM scheduler.mailing AS mailing LEFT JOIN scheduler.bulk_lane AS lane ON lane.id = mailing.lane
"""
_KEPT = (
    *("id", "account", "test", "revision", "name", "unsubscribed"),
    *("created_at", "changed_at", "started_at", "frozen_at", "finished_at", "now"),
)
# What is said of a partial index, word for word: then PostgreSQL uses it (bulk_mail_failing).
_FAILING = """mail.recipient IS NOT NULL AND mail.shelf IN ('o'::"char", 'u'::"char")"""
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

    async def sample(self, ids: Sequence[UUID]) -> dict[UUID, tuple[MailingStanding, float]]:
        """The same, and the seconds since each was sampled last."""
        found = await self.find(ids)
        return {
            each.id: (each, (each.now - each.pace.at).total_seconds() if each.pace.at else 0.0)
            for each in found.values()
        }

    async def list_page(self, account: str, after: tuple[datetime, UUID] | None, limit: int) -> list[MailingStanding]:
        """An account's mailings, newest first, after a position."""
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
        return list(map(_read_standing, rows))

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

    async def count_reasons(self, ids: Sequence[UUID]) -> dict[UUID, dict[tuple[BulkState, str | None], int]]:
        """Mails that failed, by state and kept reason, found by an index that holds no others."""
        rows = await self._database.fetch(
            f"""
            SELECT mailing.id, counted.state, counted.reason, counted.mails FROM scheduler.mailing AS mailing,
            LATERAL (SELECT mail.state, mail.reason, count(*) AS mails FROM scheduler.bulk_mail AS mail
                     WHERE mail.lane = mailing.lane AND {_FAILING} GROUP BY mail.state, mail.reason) AS counted
            WHERE mailing.id = ANY($1::uuid[])
            """,
            ids,
        )
        found: dict[UUID, dict[tuple[BulkState, str | None], int]] = {each: {} for each in ids}
        for row in rows:
            found[row["id"]][(BulkState(row["state"]), row["reason"])] = row["mails"]
        return found

    async def count_all_reasons(self, account: str) -> Mapping[tuple[BulkState, str | None], int]:
        """The same over all mailings of an account."""
        rows = await self._database.fetch(
            f"""
            SELECT counted.state, counted.reason, sum(counted.mails)::bigint AS mails
            FROM scheduler.mailing AS mailing,
            LATERAL (SELECT mail.state, mail.reason, count(*) AS mails FROM scheduler.bulk_mail AS mail
                     WHERE mail.lane = mailing.lane AND {_FAILING} GROUP BY mail.state, mail.reason) AS counted
            WHERE mailing.account = $1 GROUP BY counted.state, counted.reason
            """,
            account,
        )
        return {(BulkState(row["state"]), row["reason"]): row["mails"] for row in rows}

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
        narrowed = f"AND {_FAILING}" if state in _IN_INDEX or reason else ""
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
    kept = {name: row[name] for name in _KEPT}
    pace = Pace(row["pace"], row["sampled_at"], row["sampled_ended"])
    return MailingStanding(state=MailingState(row["stands"]), counts=counts, pace=pace, **kept)


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
