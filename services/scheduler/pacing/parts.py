"""The parts of a worker that pace bulk mail, and how they hang together."""

from collections.abc import Sequence
from datetime import timedelta

from services.scheduler.pacing.cancelling import Teller
from services.scheduler.pacing.handing_out import HandingOut
from services.scheduler.pacing.messages import Writer
from services.scheduler.pacing.results import Results
from services.scheduler.pacing.settling_store import SettlingStore
from services.scheduler.pacing.store import CANCELLATIONS, RELEASES, PacingStore
from services.scheduler.pacing.sweeping import Sweeper
from services.scheduler.settings import WorkerSettings
from services.scheduler.unsubscribing.lane_links import LaneLinks
from services.scheduler.unsubscribing.lane_store import LaneLinkStore
from services.scheduler.waiting.parts import read_expiry
from shared.batching import BatchConsumer
from shared.cleaning import Chore
from shared.database import Database
from shared.due import DueLoop
from shared.process import Part
from shared.publisher import Publisher
from shared.topics import Topics

_GROUPS_AT_ONCE = 4
_TAKEN_OVER_EVERY = timedelta(seconds=1)


def create_bulk_parts(
    settings: WorkerSettings, topics: Topics, database: Database, requests: Publisher, results: Publisher
) -> tuple[HandingOut, Sequence[Part]]:
    """All of them, in the order they start; the first is also given by itself, to be woken when mail comes in."""
    store, settling = PacingStore(database), SettlingStore(database)
    lease = timedelta(seconds=settings.release_lease_s)
    handing_out = HandingOut(
        store,
        requests,
        Writer(topics.requested, settings.event_limit),
        LaneLinks(LaneLinkStore(database), settings.make_links()),
        lease=lease,
        expiry=read_expiry(settings),
    )
    teller = Teller(store, results, topics.failed)
    taking_over = DueLoop(
        "bulk_release",
        database,
        RELEASES,
        handing_out.publish_again,
        lease=lease,
        free=lambda: _GROUPS_AT_ONCE if requests.available else 0,
        idle=_TAKEN_OVER_EVERY,
    )
    telling = DueLoop(
        "bulk_cancellation",
        database,
        CANCELLATIONS,
        teller.tell,
        lease=lease,
        free=lambda: _GROUPS_AT_ONCE if results.available else 0,
    )
    consumer = BatchConsumer(
        f"{settings.topic_prefix}milena-scheduler-results",
        [topics.sent, topics.failed],
        Results(settling, handing_out.wake).handle,
        kafka=settings.kafka,
        slot=settings.slot,
        event_limit=settings.event_limit,
        company_s=0.03,  # results that wait for company hold the window
    )
    return handing_out, [handing_out, taking_over, telling, Sweeper(store, settling), consumer]


def list_bulk_chores(database: Database, kept: timedelta) -> list[Chore]:
    """What of it is kept for long enough."""
    store = SettlingStore(database)
    return [
        Chore("scheduler.bulk_mail", lambda limit: store.delete_ended(kept, limit)),
        Chore("scheduler.bulk_content", lambda limit: store.delete_contents(2 * kept, limit)),
        Chore("scheduler.bulk_lane", lambda limit: store.delete_lanes(kept, limit)),
    ]
