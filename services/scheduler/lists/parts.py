"""The worker's part in lists of recipients: what becomes of those that are over."""

from datetime import timedelta

from services.scheduler.lists.cleaning_store import ListCleaning
from shared.cleaning import Chore
from shared.database import Database


def list_list_chores(database: Database, kept: timedelta) -> list[Chore]:
    """Uploads that fell silent are given up; what is left of lists that are over is deleted. `kept`: why it failed."""
    cleaning = ListCleaning(database)

    async def delete_entries(limit: int) -> int:
        await cleaning.give_up(limit)
        return await cleaning.delete_entries(limit)

    return [
        Chore("scheduler.mailing_list_entry", delete_entries),
        Chore("scheduler.mailing_list_problem", lambda limit: cleaning.delete_problems(kept, limit)),
        Chore("scheduler.mailing_list", lambda limit: cleaning.delete_lists(kept, limit)),
    ]
