"""The statements by which the recipients of mailings go that have been over for long. All times are PostgreSQL's."""

from datetime import timedelta

from services.scheduler.mailings.standing.reasons_store import COUNT_REASONS
from shared.cleaning import delete_chosen
from shared.database import Database

_MARKED_AT_ONCE = 20  # mailings; what failed of each is counted, where it was not when they ended


class MailingCleaning:
    """Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def mark(self, kept: timedelta) -> int:
        """Note of mailings that have been over for longer than `kept` that their recipients go; returns of how many.

        Nobody can be tried again from here on, so none of the rows is needed.
        """
        return len(await self._database.fetch(_MARK, kept, _MARKED_AT_ONCE))

    async def delete_recipients(self, limit: int) -> int:
        """Delete up to `limit` rows of recipients of these mailings."""
        chosen = """
            SELECT mail.ctid FROM scheduler.mailing CROSS JOIN LATERAL (
                (SELECT ctid FROM scheduler.bulk_mail WHERE bulk_mail.lane = mailing.lane
                 AND handed_at IS NOT NULL AND ended_at IS NOT NULL LIMIT $1)
                UNION ALL
                (SELECT ctid FROM scheduler.bulk_mail WHERE bulk_mail.lane = mailing.lane
                 AND shelf = 'u' AND handed_at IS NULL LIMIT $1)) AS mail
            WHERE mailing.recipients_deleted_at IS NOT NULL LIMIT $1
        """
        return await delete_chosen(self._database, "scheduler.bulk_mail", chosen, limit)


_MARK = f"""
    UPDATE scheduler.mailing AS mailing
    SET recipients_deleted_at = now(), changed_at = now(), reasons = coalesce(reasons, {COUNT_REASONS})
    WHERE id IN (SELECT id FROM scheduler.mailing WHERE finished_at < now() - $1::interval
                 AND recipients_deleted_at IS NULL ORDER BY finished_at LIMIT $2)
      AND finished_at < now() - $1::interval AND recipients_deleted_at IS NULL
    RETURNING id
"""
