"""Every SQL statement on runs at work. Raises DatabaseUnavailable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from services.scheduler.runs.endings import Ending
from shared.cleaning import delete_chosen
from shared.database import Database
from shared.due import DueRow, DueTable

_FRESH = "state IN ('ready', 'published') AND job_name NOT LIKE 'external:%'"
_BEGIN = (
    "taken_over = (state = 'running'), deaths = deaths + CASE WHEN state = 'running' THEN 1 ELSE 0 END, "
    "state = 'running', attempt = attempt + 1, started_at = coalesce(started_at, now())"
)


@dataclass(frozen=True, slots=True)
class RunTable(DueTable):
    """Runs to begin, and those of dead processes to take over, unless we are `cautious`: then only the former."""

    cautious: Callable[[], bool] = lambda: False

    async def lease(self, database: Database, limit: int, lease: timedelta) -> list[DueRow]:
        """As every due table's."""
        if self.cautious():
            return await DueTable.lease(replace(self, where=_FRESH), database, limit, lease)
        return await DueTable.lease(self, database, limit, lease)


def create_run_table(cautious: Callable[[], bool]) -> RunTable:
    """The runs of every account."""
    where = f"(({_FRESH}) OR state = 'running')"
    return RunTable("scheduler.occurrence", where=where, mark=_BEGIN, cautious=cautious)


# The status is that of the latest run: one that began later, by its due time, keeps it.
_SHOW_RUNNING = """
    WITH begun AS (
        SELECT task_id, max(scheduled_for) AS due_at FROM scheduler.occurrence
        WHERE id = ANY($1::uuid[]) AND task_id IS NOT NULL GROUP BY task_id)
    UPDATE scheduler.task SET status = 'RUNNING', last_due_at = begun.due_at FROM begun
    WHERE task.id = begun.task_id AND coalesce(last_due_at, '-infinity') <= begun.due_at
"""
# `retry_in` is null where no further attempt follows; nor does one where the task has been deleted meanwhile.
_SETTLE = """
    WITH given AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::interval[], $7::bool[])
               AS given(id, token, state, result, error, retry_in, failed)),
    ended AS (
        UPDATE scheduler.occurrence AS run
        SET state = CASE WHEN kept.again THEN 'ready' ELSE given.state END,
            failures = run.failures + CASE WHEN given.failed THEN 1 ELSE 0 END,
            due_at = CASE WHEN kept.again THEN now() + given.retry_in ELSE run.due_at END,
            finished_at = CASE WHEN NOT kept.again THEN now() END,
            result = CAST(given.result AS json), error = CAST(given.error AS json),
            lease_token = NULL, lease_until = NULL
        FROM given, LATERAL (
            SELECT given.retry_in IS NOT NULL AND (
                       SELECT held.task_id IS NULL OR EXISTS (SELECT FROM scheduler.task WHERE task.id = held.task_id)
                       FROM scheduler.occurrence AS held WHERE held.id = given.id) AS again) AS kept
        WHERE run.id = given.id AND run.lease_token = given.token
        RETURNING run.id, run.task_id, run.state, run.scheduled_for),
    latest AS (
        SELECT DISTINCT ON (task_id) task_id, state, scheduled_for FROM ended
        WHERE task_id IS NOT NULL AND state IN ('succeeded', 'failed') ORDER BY task_id, scheduled_for DESC),
    shown AS (
        UPDATE scheduler.task SET status = upper(latest.state), last_due_at = latest.scheduled_for FROM latest
        WHERE task.id = latest.task_id AND coalesce(last_due_at, '-infinity') <= latest.scheduled_for)
    SELECT id, state FROM ended
"""


class RunStore:
    """Runs that are at work in this process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def show_running(self, rows: Sequence[DueRow]) -> None:
        """Give these runs' tasks the status RUNNING."""
        await self._database.fetch(_SHOW_RUNNING, sorted(row.id for row in rows))

    async def settle(self, endings: Sequence[Ending]) -> None:
        """Write how attempts ended; those that somebody else has taken over since are his to end."""
        ordered = sorted(endings, key=lambda ending: ending.row.id)
        await self._database.fetch(
            _SETTLE,
            [ending.row.id for ending in ordered],
            [ending.row.token for ending in ordered],
            [ending.state for ending in ordered],
            [ending.result for ending in ordered],
            [ending.error for ending in ordered],
            [ending.retry_in for ending in ordered],
            [ending.is_failure for ending in ordered],
        )

    async def purge(self, account: str, older_than: timedelta, limit: int, *, test_only: bool) -> int:
        """Delete up to `limit` runs of an account that ended longer ago; `test_only`: that test keys have caused."""
        chosen = """
            SELECT ctid FROM scheduler.occurrence
            WHERE account = $1 AND finished_at < now() - $2::interval AND (test OR NOT $4) LIMIT $3
        """
        table = "scheduler.occurrence"
        return await delete_chosen(self._database, table, chosen, account, older_than, limit, test_only)
