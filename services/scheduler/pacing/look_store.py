"""The statements by which a worker notes how fast mail leaves, and that the end has been told."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from shared.database import Database
from shared.due import DueRow

PAUSE = timedelta(seconds=1)
"""Between two looks at what is on its way."""
_LONG_PAUSE = timedelta(seconds=10)


class Look(NamedTuple):
    """What a look has found: mails that have their end, and the rate that makes."""

    row: DueRow
    rate: float | None
    ended: int
    is_finished: bool
    is_idle: bool = False


@dataclass(frozen=True, slots=True)
class LookStore:
    """Of one table, whose column `rate` holds the rate. Every method raises DatabaseUnavailable and may be repeated."""

    database: Database
    table: str
    rate: str = "rate"

    async def note(self, looks: Sequence[Look]) -> None:
        """Write down what was found, and when to look again; what is finished stays leased, to be told."""
        await self.database.fetch(
            f"""
            UPDATE {self.table} AS thing
            SET {self.rate} = look.rate, sampled_ended = look.ended, sampled_at = now(),
                due_at = now() + CASE WHEN look.idle AND finished_at IS NULL THEN $8::interval ELSE $7::interval END,
                finished_at = coalesce(finished_at, CASE WHEN look.finished THEN now() END),
                lease_token = CASE WHEN look.finished THEN lease_token END,
                lease_until = CASE WHEN look.finished THEN lease_until END
            FROM unnest($1::uuid[], $2::uuid[], $3::float8[], $4::bigint[], $5::bool[], $6::bool[])
                 AS look(id, token, rate, ended, finished, idle)
            WHERE thing.id = look.id AND thing.lease_token = look.token AND thing.told_at IS NULL
            """,
            [look.row.id for look in looks],
            [look.row.token for look in looks],
            [look.rate for look in looks],
            [look.ended for look in looks],
            [look.is_finished for look in looks],
            [look.is_idle for look in looks],
            PAUSE,
            _LONG_PAUSE,
        )

    async def mark_told(self, rows: Sequence[DueRow]) -> None:
        """Nothing more will happen to what is still held: its end was acknowledged, or nothing is left of it."""
        await self.database.fetch(
            f"""
            UPDATE {self.table} AS thing SET told_at = now(), lease_token = NULL, lease_until = NULL
            FROM unnest($1::uuid[], $2::uuid[]) AS held(id, token)
            WHERE thing.id = held.id AND thing.lease_token = held.token AND thing.told_at IS NULL
            """,
            [row.id for row in rows],
            [row.token for row in rows],
        )
