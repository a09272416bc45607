"""Every SQL statement on the counts of mails; the triggers of `emails` write them. Raises DatabaseUnavailable."""

from datetime import datetime, timedelta
from typing import Any

from services.gateway.tallies import MINUTES_KEPT, Range, Resolution
from shared.cleaning import delete_chosen
from shared.database import Database
from shared.states import MailStatus

_COUNTS = ", ".join(f"greatest(sum({status.value}), 0) AS {status.value}" for status in MailStatus)
READ = f"""
    SELECT date_trunc($5, start, 'UTC') AS start, {_COUNTS} FROM gateway.tallies
    WHERE account = $1 AND tag = $2 AND resolution = $3 AND start >= $4 AND start < $6
    GROUP BY 1
"""
_OLD = """
    (SELECT ctid FROM gateway.tallies WHERE resolution = 'minute' AND start < now() - $1::interval
     ORDER BY start LIMIT $3)
    UNION ALL
    (SELECT ctid FROM gateway.tallies WHERE resolution = 'hour' AND start < now() - $2::interval
     ORDER BY start LIMIT $3)
    LIMIT $3
"""
_SLACK = timedelta(hours=1)  # an answer that was allowed is whole


class TallyStore:
    """The table `gateway.tallies`: minutes and hours; days are sums of hours."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, account: str, tag: str, spans: Range) -> dict[datetime, dict[str, int]]:
        """By the beginning of its span, how many mails have which status; spans without any are left out.

        `tag` '' means all mails of the account.
        """
        kept = Resolution.MINUTE if spans.resolution is Resolution.MINUTE else Resolution.HOUR
        rows: list[Any] = await self._database.fetch(
            READ, account, tag, kept.value, spans.since, spans.resolution.value, spans.until
        )
        return {row["start"]: {status.value: int(row[status.value]) for status in MailStatus} for row in rows}


async def delete_tallies(database: Database, kept: timedelta, limit: int) -> int:
    """Delete up to `limit` counts: minutes after a week, hours when mails of their age are forgotten."""
    return await delete_chosen(database, "gateway.tallies", _OLD, MINUTES_KEPT + _SLACK, kept + _SLACK, limit)
