"""A worker's looks at mailings: how fast they go, and the last word on one that is over, `mailing.finished` (R2)."""

from services.scheduler.failures import SOURCE
from services.scheduler.mailings.mailing import MailingState
from services.scheduler.mailings.standing.standing import MailingStanding
from services.scheduler.mailings.standing.store import StandingStore
from services.scheduler.pacing.look_store import LookStore
from services.scheduler.pacing.looking import Watch, create_look_loop
from services.scheduler.pacing.states import BulkState
from shared.database import Database
from shared.due import DueLoop, DueTable
from shared.events import EventType, MailingCounts, MailingFinished, build_headers, derive_event_id
from shared.producing import Message
from shared.publisher import Publisher
from shared.topics import Topics
from shared.tracing import continue_trace

LOOKS = DueTable("scheduler.mailing", where="told_at IS NULL AND state NOT IN ('draft', 'scheduled')")


def create_mailing_watch(database: Database, results: Publisher, topic: str) -> Watch[MailingStanding]:
    """The looks. Whatever ends a mailing has it looked at; one that waits for its hours costs next to nothing."""
    looks = LookStore(database, LOOKS.name, rate="pace")
    find = StandingStore(database).sample
    return Watch(looks, find, lambda standing: tell_finished(standing, topic), results)


def create_mailing_looks(database: Database, results: Publisher, topics: Topics) -> DueLoop:
    """The worker's part."""
    return create_look_loop(
        "mailings", database, LOOKS, create_mailing_watch(database, results, topics.tick).look, results
    )


def tell_finished(standing: MailingStanding, topic: str) -> Message:
    """The last word on a mailing; one that was tried again has another end, told as another event."""
    assert standing.finished_at is not None, "it is over"
    kind = EventType.MAILING_FINISHED
    event_id = derive_event_id(standing.id, kind, attempt=standing.revision, final=True)
    headers = build_headers(kind, event_id, SOURCE, standing.finished_at, continue_trace(None))
    return Message(topic, str(standing.id).encode(), describe_finished(standing).to_json(), headers)


def describe_finished(standing: MailingStanding) -> MailingFinished:
    """The event."""
    counts = standing.counts
    assert standing.finished_at is not None
    return MailingFinished(
        mailing_id=standing.id,
        name=standing.name,
        state="cancelled" if standing.state is MailingState.CANCELLED else "finished",
        counts=MailingCounts(
            recipients=standing.total,
            sent=counts[BulkState.SENT] + counts[BulkState.PARTIALLY_SENT],
            failed=counts[BulkState.FAILED],
            expired=counts[BulkState.EXPIRED],
            cancelled=counts[BulkState.CANCELLED],
            skipped=counts[BulkState.SKIPPED],
        ),
        created_at=standing.created_at,
        started_at=standing.started_at,
        finished_at=standing.finished_at,
        account=standing.account,
        test=standing.test,
    )
