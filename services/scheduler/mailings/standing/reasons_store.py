"""The statements that tell why mail of mailings failed: an index that says it is all they read.

While a mailing runs they count its rows; what they count when it ends is kept with it, for as long as it is.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from services.scheduler.mailings.states import WAITING
from services.scheduler.pacing.states import BulkState
from shared.database import Database

Reasons = Mapping[tuple[BulkState, str | None], int]
"""How many mails by state and kept reason."""

_BY_REASON = f"""
    SELECT split_part(mail.fate, ' ', 1) AS state, nullif(substr(mail.fate, strpos(mail.fate, ' ') + 1), '') AS reason,
           count(*) AS mails
    FROM scheduler.bulk_mail AS mail WHERE mail.lane = mailing.lane AND mail.fate > '{WAITING}' GROUP BY mail.fate
"""
COUNT_REASONS = f"(SELECT coalesce(jsonb_agg(to_jsonb(counted)), '[]') FROM ({_BY_REASON}) AS counted)"
"""What `mailing.reasons` is to be, in a statement on `mailing`."""
_REASONS = f"""
    LATERAL (
        SELECT kept.* FROM jsonb_to_recordset(mailing.reasons) AS kept(state text, reason text, mails bigint)
        UNION ALL
        SELECT live.* FROM ({_BY_REASON}) AS live WHERE mailing.reasons IS NULL) AS counted
"""


class ReasonStore:
    """Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, ids: Sequence[UUID]) -> dict[UUID, Reasons]:
        """What failed of these mailings."""
        rows = await self._database.fetch(
            f"""
            SELECT mailing.id, counted.* FROM scheduler.mailing AS mailing, {_REASONS}
            WHERE mailing.id = ANY($1::uuid[])
            """,
            ids,
        )
        found: dict[UUID, dict[tuple[BulkState, str | None], int]] = {each: {} for each in ids}
        for row in rows:
            found[row["id"]][(BulkState(row["state"]), row["reason"])] = row["mails"]
        return dict(found)

    async def count_all(self, account: str) -> Reasons:
        """What failed of all mailings of an account together."""
        rows = await self._database.fetch(
            f"""
            SELECT counted.state, counted.reason, sum(counted.mails)::bigint AS mails
            FROM scheduler.mailing AS mailing, {_REASONS}
            WHERE mailing.account = $1 GROUP BY counted.state, counted.reason
            """,
            account,
        )
        return {(BulkState(row["state"]), row["reason"]): row["mails"] for row in rows}
