"""The read model keeps a mail for its time after the last thing that happened to it; then whole days are dropped.

A mail lies in the partition of the day its id was minted, and may live on for long: one scheduled months ahead, or
tried for a week. Such mails are moved to today's partition before theirs is dropped, and the locator says so. Labels go
with their mails, by the triggers of `emails`; what was counted stays, until it is as old.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import structlog
from sqlalchemy.exc import DBAPIError

from services.gateway.idempotency_store import delete_keys
from services.gateway.partitions import Partitions
from services.gateway.retry_store import delete_retries
from services.gateway.store import FENCE, REBUILDING, PartitionStore
from services.gateway.tables import SCHEMA, emails, labels, timeline
from services.gateway.tally_store import delete_tallies
from shared.cleaning import Chore, Cleaner, delete_chosen
from shared.database import Database

log = structlog.get_logger(__name__)

# Still in use: something happened lately, or the scheduler holds it.
_ALIVE = "(updated_at >= now() - $2::interval OR (held AND NOT released AND NOT complete))"
_LIST_DAYS = """
    SELECT DISTINCT right(relname, 8) AS day FROM pg_inherits JOIN pg_class ON oid = inhrelid
    WHERE inhparent IN ('gateway.emails'::regclass, 'gateway.timeline'::regclass, 'gateway.labels'::regclass)
      AND relname ~ '_[0-9]{8}$'
"""
_MOVE = f"""
    WITH alive AS (
        INSERT INTO gateway.locator (id, bucket)
        SELECT id, current_date FROM gateway.emails WHERE bucket = $1 AND {_ALIVE} ORDER BY id
        ON CONFLICT (id) DO UPDATE SET bucket = excluded.bucket RETURNING id),
    moved AS (
        UPDATE gateway.emails AS mail SET bucket = current_date FROM alive
        WHERE mail.bucket = $1 AND mail.id = alive.id),
    lines AS (
        UPDATE gateway.timeline AS line SET bucket = current_date FROM alive
        WHERE line.bucket = $1 AND line.email_id = alive.id)
    SELECT count(*) AS moved FROM alive
"""
_STRAYS = f"""
    SELECT ctid FROM gateway.emails_default WHERE bucket < $1 AND NOT {_ALIVE} ORDER BY bucket, id LIMIT $3
"""
# `m.bucket < $1` says nothing new, but keeps the planner from reading all mails.
_STRAY_LINES = """
    SELECT ctid FROM gateway.timeline_default AS line
    WHERE bucket < $1
      AND NOT EXISTS (
        SELECT 1 FROM gateway.emails AS m WHERE m.bucket < $1 AND m.bucket = line.bucket AND m.id = line.email_id)
    ORDER BY bucket, email_id, event_id LIMIT $2
"""
_STRAY_LABELS = """
    SELECT ctid FROM gateway.labels_default AS label
    WHERE bucket < $1
      AND NOT EXISTS (
        SELECT 1 FROM gateway.emails AS m WHERE m.bucket < $1 AND m.bucket = label.bucket AND m.id = label.id)
    ORDER BY bucket LIMIT $2
"""
_LOST_LOCATIONS = """
    SELECT ctid FROM gateway.locator AS place
    WHERE bucket < $1
      AND NOT EXISTS (
        SELECT 1 FROM gateway.emails AS m WHERE m.bucket < $1 AND m.bucket = place.bucket AND m.id = place.id)
    ORDER BY bucket LIMIT $2
"""


class AgeingStore:
    """Every statement that ends what the read model has kept for `kept`. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database, kept: timedelta) -> None:
        self._database = database
        self._kept = kept

    @property
    def first_kept(self) -> date:
        """The first day whose partition stays."""
        return (datetime.now(UTC) - self._kept).date()

    async def list_old_days(self) -> list[date]:
        """Days that have partitions and are over since `kept`."""
        rows = await self._database.fetch(_LIST_DAYS)
        days = sorted(datetime.strptime(row["day"], "%Y%m%d").date() for row in rows)
        return [day for day in days if day < self.first_kept]

    async def drop_day(self, day: date) -> int:
        """Move the day's mails still in use to today and drop its partitions; returns how many were moved.

        Raises DBAPIError where it cannot be alone at once. Until the end no worker writes; readers wait for the last
        statement only.
        """
        async with self._database.transaction() as connection:
            # Whoever comes behind us waits as long as we do, so we do not wait for long.
            await connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
            # A rebuild would put a mail that moves now back where its records say.
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({REBUILDING})")
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({FENCE})")
            moved = (await connection.exec_driver_sql(_MOVE, (day, self._kept))).scalar_one()
            names = ", ".join(f"{SCHEMA}.{table.name}_{day:%Y%m%d}" for table in (emails, timeline, labels))
            await connection.exec_driver_sql(f"DROP TABLE IF EXISTS {names}")
            return int(moved)

    async def delete_strays(self, limit: int) -> int:
        """Delete up to `limit` old mails that lie in no day's partition."""
        return await delete_chosen(
            self._database, "gateway.emails_default", _STRAYS, self.first_kept, self._kept, limit
        )

    async def delete_stray_lines(self, limit: int) -> int:
        """Delete up to `limit` old lines in no day's partition whose mail is gone."""
        return await delete_chosen(self._database, "gateway.timeline_default", _STRAY_LINES, self.first_kept, limit)

    async def delete_stray_labels(self, limit: int) -> int:
        """Delete up to `limit` old labels in no day's partition whose mail is gone."""
        return await delete_chosen(self._database, "gateway.labels_default", _STRAY_LABELS, self.first_kept, limit)

    async def delete_locations(self, limit: int) -> int:
        """Delete up to `limit` entries of the locator whose mail is gone."""
        return await delete_chosen(self._database, "gateway.locator", _LOST_LOCATIONS, self.first_kept, limit)


class DayDropper:
    """Drops the partitions of days over for long enough."""

    def __init__(self, store: AgeingStore, partitions: Partitions) -> None:
        self._store = store
        self._partitions = partitions

    async def drop(self, limit: int) -> int:
        """Drop up to `limit` days; returns how many."""
        days: Sequence[date] = (await self._store.list_old_days())[:limit]
        if days:
            await self._partitions.provide([datetime.now(UTC).date()])
        dropped = 0
        for day in days:
            try:
                moved = await self._store.drop_day(day)
            except DBAPIError as exc:
                log.info("a day is dropped later", day=day.isoformat(), error=str(exc.orig)[:200])
            else:
                dropped += 1
                log.info("day dropped", day=day.isoformat(), moved=moved)
        return dropped


def create_cleaner(database: Database, kept: timedelta) -> Cleaner:
    """The part of the worker that lets the gateway forget: what the read model has kept for `kept`, and old keys."""
    store = AgeingStore(database, kept)
    days = DayDropper(store, Partitions(PartitionStore(database)))
    return Cleaner(
        "gateway",
        database,
        [
            Chore("gateway days", days.drop),
            Chore("gateway.emails", store.delete_strays),
            Chore("gateway.timeline", store.delete_stray_lines),
            Chore("gateway.labels", store.delete_stray_labels),
            Chore("gateway.locator", store.delete_locations),
            Chore("gateway.tallies", lambda limit: delete_tallies(database, kept, limit)),
            Chore("gateway.retries", lambda limit: delete_retries(database, kept, limit)),
            Chore("gateway.idempotency_keys", lambda limit: delete_keys(database, limit)),
        ],
    )
