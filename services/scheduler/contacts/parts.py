"""The worker's part in contacts: what is known of imports goes when it is old."""

from datetime import timedelta

from services.scheduler.contacts.import_store import ImportStore
from shared.cleaning import Chore
from shared.database import Database


def list_contact_chores(database: Database, kept: timedelta) -> list[Chore]:
    """Imports, and what was wrong with their rows. `kept`: after their beginning."""
    store = ImportStore(database)
    return [
        Chore("scheduler.contact_import_problem", lambda limit: store.delete_problems(kept, limit)),
        Chore("scheduler.contact_import", lambda limit: store.delete_imports(kept, limit)),
    ]
