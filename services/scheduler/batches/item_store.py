"""The statements on the items of batches: mails are paced bulk's rows, bad ones have a row of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from services.scheduler.batches.numbering import MOST_ITEMS, derive_item_id, find_number
from services.scheduler.pacing.states import BulkState
from shared.database import Database

RETRIED = (BulkState.FAILED, BulkState.EXPIRED)
_LANE_OF = "(SELECT lane FROM scheduler.batch WHERE id = $1)"


@dataclass(frozen=True, slots=True)
class BatchItem:
    """An item: a mail and its state, or a problem."""

    number: int
    id: UUID | None = None
    state: BulkState | None = None
    line: int | None = None
    problem: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FailedMail:
    """What is kept of a mail that failed; see pacing's BulkRow."""

    id: UUID
    number: int
    content: bytes | None
    own: bytes
    traceparent: str | None


class BatchItemStore:
    """Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_mails(
        self, batch_id: UUID, after: int, limit: int, states: Sequence[BulkState] | None
    ) -> list[BatchItem]:
        """Mails by number, from beyond `after`: their ids sort as their numbers do."""
        rows = await self._database.fetch(
            f"""
            SELECT id, state FROM scheduler.bulk_mail
            WHERE id > $2 AND id <= $3 AND lane = {_LANE_OF} AND ($5::text[] IS NULL OR state = ANY($5::text[]))
            ORDER BY id LIMIT $4
            """,
            batch_id,
            derive_item_id(batch_id, after),
            derive_item_id(batch_id, MOST_ITEMS),
            limit,
            states,
        )
        return [BatchItem(find_number(row["id"]), row["id"], BulkState(row["state"])) for row in rows]

    async def list_problems(self, batch_id: UUID, after: int, limit: int) -> list[BatchItem]:
        """Bad items by number, from beyond `after`."""
        rows = await self._database.fetch(
            """
            SELECT number, line, problem FROM scheduler.batch_problem
            WHERE batch = $1 AND number > $2 ORDER BY number LIMIT $3
            """,
            batch_id,
            after,
            limit,
        )
        return [BatchItem(row["number"], line=row["line"], problem=orjson.loads(row["problem"])) for row in rows]

    async def list_failed(self, batch_id: UUID, after: int, limit: int) -> list[FailedMail]:
        """Mails that failed, with what is needed to send them again, by number, from beyond `after`."""
        rows = await self._database.fetch(
            f"""
            SELECT mail.id, mail.number, content.body, mail.own, mail.traceparent FROM scheduler.bulk_mail AS mail
            LEFT JOIN scheduler.bulk_content AS content ON content.lane = mail.lane AND content.id = mail.content
            WHERE mail.lane = {_LANE_OF} AND mail.number > $2 AND mail.state = ANY($4::text[])
              AND mail.own IS NOT NULL AND (mail.content IS NULL OR content.body IS NOT NULL)
              AND mail.shelf = 'u'
            ORDER BY mail.number LIMIT $3
            """,
            batch_id,
            after,
            limit,
            RETRIED,
        )
        return [FailedMail(row["id"], row["number"], row["body"], row["own"], row["traceparent"]) for row in rows]
