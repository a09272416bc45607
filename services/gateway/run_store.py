"""What the last reconcile found, and how long mail waits: every SQL statement of the read model's gauges."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from services.gateway.store import NEW_TIME
from shared.database import Database

Row = dict[str, Any]
_SAVE_RUN = """
    INSERT INTO gateway.reconciliation AS kept (started_at, accepted, faults, states)
    VALUES ($1, $2, $3, $4::text::jsonb)
    ON CONFLICT (last) DO UPDATE SET (started_at, accepted, faults, states)
        = (excluded.started_at, excluded.accepted, excluded.faults, excluded.states)
"""
_FIND_RUN = """
    SELECT extract(epoch FROM now() - started_at)::float8 AS age_s, accepted, faults, states::text AS states
    FROM gateway.reconciliation
"""
# The condition and the order are those of the index emails_waiting; one that was moved to a later time does not wait.
_LONGEST_WAIT = f"""
    SELECT extract(epoch FROM now() - greatest(created_at, send_at))::float8 AS age_s FROM gateway.emails AS mail
    WHERE status IN ('queued', 'scheduled', 'deferred') AND greatest(created_at, send_at) <= now()
      AND NOT (status = 'scheduled' AND coalesce(({NEW_TIME.format(mail="mail")})::timestamptz > now(), false))
    ORDER BY greatest(created_at, send_at) LIMIT 1
"""


class ReconciliationStore:
    """What the last reconcile found, and what the read model itself says of waiting. Raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, *, started_at: datetime, accepted: int, faults: int, states: Mapping[str, int]) -> None:
        """Keep the result of a run in place of the one before."""
        await self._database.fetch(_SAVE_RUN, started_at, accepted, faults, orjson.dumps(states).decode())

    async def find_last(self) -> Row | None:
        """The last run: `age_s`, `accepted`, `faults`, `states`."""
        rows = await self._database.fetch(_FIND_RUN)
        return {**rows[0], "states": orjson.loads(rows[0]["states"])} if rows else None

    async def find_longest_wait(self) -> float:
        """Seconds since the oldest mail without an outcome was accepted, or was to be sent; 0 where none waits."""
        rows = await self._database.fetch(_LONGEST_WAIT)
        return float(rows[0]["age_s"]) if rows else 0.0
