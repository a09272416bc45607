"""The worker's part in batches: looking at those on their way, and deleting old ones."""

from collections.abc import Sequence
from datetime import timedelta

from services.scheduler.batches.ending import BatchWatcher
from services.scheduler.batches.look_store import LOOKS, BatchLookStore
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.pacing.looking import create_look_loop
from shared.cleaning import Chore
from shared.database import Database
from shared.process import Part
from shared.publisher import Publisher
from shared.topics import Topics


def create_batch_parts(database: Database, results: Publisher, topics: Topics) -> Sequence[Part]:
    """A due loop over batches. `results` is not compressed, so that any Kafka client reads `batch.finished`."""
    watcher = BatchWatcher(BatchLookStore(database), BulkStore(database), results, topics.tick)
    return [create_look_loop("batches", database, LOOKS, watcher.look, results)]


def list_batch_chores(database: Database, kept: timedelta) -> list[Chore]:
    """What is deleted of batches once they have been kept for long enough."""
    store = BatchLookStore(database)
    return [
        Chore("scheduler.batch_problem", lambda limit: store.delete_problems(kept, limit)),
        Chore("scheduler.batch", lambda limit: store.delete_old(kept, limit)),
    ]
