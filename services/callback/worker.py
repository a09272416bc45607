"""The callback worker: its parts, and how they hang together."""

from collections.abc import Sequence
from datetime import timedelta

from services.callback.courier import Courier
from services.callback.intake import Intake
from services.callback.requests import Requester
from services.callback.settings import WorkerSettings
from services.callback.store import DUE_DELIVERIES, CallbackStore
from shared.access import derive_webhook_secret
from shared.batching import BatchConsumer
from shared.cleaning import Chore, Cleaner
from shared.database import PLAN_EACH_TIME, Database
from shared.due import DueLoop
from shared.health import HealthServer
from shared.process import Part
from shared.retention import Demand, Memory
from shared.survey import Survey
from shared.topics import Topics


def create_worker(settings: WorkerSettings) -> Sequence[Part]:
    """The parts of the process, in the order they start."""
    url = settings.database_url.get_secret_value()
    database = Database(url, application_name="milena-callback-worker", planning=PLAN_EACH_TIME)
    store = CallbackStore(database)
    requester = Requester(settings.callback_allowed_networks, settings.callback_timeout_s)
    courier = _create_courier(settings, requester, store)
    loop = DueLoop(
        "callback",
        database,
        DUE_DELIVERIES,
        courier.take,
        lease=timedelta(seconds=settings.callback_lease_s),
        free=lambda: courier.room,
    )
    courier.on_room = loop.wake
    consumer = _create_consumer(settings, Intake(store, on_new=loop.wake, event_limit=settings.event_limit))
    health = HealthServer(
        settings.health_host,
        settings.health_port,
        {"kafka": consumer.check, "postgresql": database.check},
        settings.metrics_allowed_networks,
    )
    watching: list[Part] = [_create_survey(settings), _create_cleaner(settings, database, store)]
    return [health, database, requester, courier, loop, consumer, *watching]


def _create_survey(settings: WorkerSettings) -> Survey:
    topics = Topics(settings.topic_prefix)
    read = (topics.sent, topics.failed)
    kept = timedelta(days=settings.delivery_retention_days)
    demand = Demand(read, settings.event_limit, memories=(Memory("MILENA_DELIVERY_RETENTION_DAYS", kept, read),))
    return Survey(settings.kafka, demand)


def _create_cleaner(settings: WorkerSettings, database: Database, store: CallbackStore) -> Cleaner:
    kept = timedelta(days=settings.delivery_retention_days)
    return Cleaner("callback", database, [Chore("callback.delivery", lambda limit: store.delete_finished(kept, limit))])


def _create_courier(settings: WorkerSettings, requester: Requester, store: CallbackStore) -> Courier:
    master_secret = settings.master_secret.get_secret_value()
    return Courier(
        requester.post,
        store,
        find_secret=lambda account: derive_webhook_secret(master_secret, account),
        delays=settings.retry_delays,
        limit=settings.callback_concurrency,
        host_limit=settings.callback_host_concurrency,
        patience_s=settings.callback_timeout_s + 5,
    )


def _create_consumer(settings: WorkerSettings, intake: Intake) -> BatchConsumer:
    topics = Topics(settings.topic_prefix)
    return BatchConsumer(
        f"{settings.topic_prefix}milena-callback",
        [topics.sent, topics.failed],
        intake.handle,
        kafka=settings.kafka,
        slot=settings.slot,
        event_limit=settings.event_limit,
    )
