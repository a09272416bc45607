"""What of mailings runs in the scheduler's worker, and in its job runner."""

from collections.abc import Sequence
from datetime import timedelta

from services.scheduler.mailings.course.asking_store import AskingStore
from services.scheduler.mailings.course.cleaning_store import MailingCleaning
from services.scheduler.mailings.course.ending import create_mailing_looks
from services.scheduler.mailings.course.engine import Engine, EnginePolicy
from services.scheduler.mailings.course.finish_store import FinishStore
from services.scheduler.mailings.course.freeze_store import FreezeStore
from services.scheduler.mailings.course.round_store import RoundStore
from services.scheduler.mailings.course.watching import MailingWatcher
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.settings import JobRunnerSettings
from shared.cleaning import Chore
from shared.database import Database
from shared.process import Part
from shared.publisher import Publisher
from shared.topics import Topics


def create_mailing_parts(database: Database, results: Publisher, topics: Topics) -> Sequence[Part]:
    """The worker's: mail leaves as all bulk does, so there is only to see what waits for a job, and to tell."""
    watcher = MailingWatcher(FinishStore(database), AskingStore(database), RoundStore(database, repeat_failed=False))
    return [watcher, create_mailing_looks(database, results, topics)]


def list_mailing_chores(database: Database, kept: timedelta) -> list[Chore]:
    """Recipients of mailings that have been over for longer than `kept` go; the mailings and their counts stay."""
    cleaning = MailingCleaning(database)

    async def delete_recipients(limit: int) -> int:
        await cleaning.mark(kept)
        return await cleaning.delete_recipients(limit)

    return [Chore("scheduler.bulk_mail", delete_recipients)]


def create_engine(settings: JobRunnerSettings, database: Database, audiences: Database) -> Engine:
    """The job runner's."""
    return Engine(
        FreezeStore(database, audiences),
        RoundStore(database, repeat_failed=settings.mailing_repeat_failed),
        FinishStore(database),
        BulkStore(database),
        EnginePolicy(timedelta(seconds=settings.mailing_repeat_timeout), settings.event_limit),
    )
