"""The statements by which lists of recipients that are over go, little by little. All times are PostgreSQL's."""

from datetime import timedelta

from shared.cleaning import delete_chosen
from shared.database import Database

SILENCE = timedelta(minutes=2)
"""After so long without a sign of life an upload is given up: the process that took it in has ended, or stalls."""

_OLD = "(list.state = 'deleted' OR list.state = 'aborted' AND list.created_at < now() - $1::interval)"


class ListCleaning:
    """Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def give_up(self, limit: int) -> None:
        """End uploads that have been silent for too long."""
        await self._database.fetch(
            """
            UPDATE scheduler.mailing_list SET state = 'aborted',
                   detail = 'The upload was cut off: the process that took it in ended, or nothing came for minutes.'
            WHERE id IN (SELECT id FROM scheduler.mailing_list WHERE state = 'receiving'
                         AND seen_at < now() - $1::interval LIMIT $2) AND state = 'receiving'
            """,
            SILENCE,
            limit,
        )

    async def delete_entries(self, limit: int) -> int:
        """Delete up to `limit` entries of lists that are over."""
        return await self._delete_of("scheduler.mailing_list_entry", "state IN ('aborted', 'deleted')", limit)

    async def delete_problems(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` problems of lists that are deleted, or were aborted longer ago than `kept`."""
        return await self._delete_of("scheduler.mailing_list_problem", _OLD, limit, kept)

    async def delete_lists(self, kept: timedelta, limit: int) -> int:
        """Delete up to `limit` of these lists once nothing of them is left."""
        return await delete_chosen(
            self._database,
            "scheduler.mailing_list",
            f"""
            SELECT ctid FROM scheduler.mailing_list AS list WHERE {_OLD}
            AND NOT EXISTS (SELECT FROM scheduler.mailing_list_entry WHERE list = list.id)
            AND NOT EXISTS (SELECT FROM scheduler.mailing_list_problem WHERE list = list.id) LIMIT $2
            """,
            kept,
            limit,
        )

    async def _delete_of(self, table: str, condition: str, limit: int, *args: object) -> int:
        chosen = f"""
            SELECT part.ctid FROM scheduler.mailing_list AS list JOIN {table} AS part ON part.list = list.id
            WHERE {condition} LIMIT ${len(args) + 1}
        """
        return await delete_chosen(self._database, table, chosen, *args, limit)
