"""The scheduler's worker: its parts, and how they hang together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from aiokafka.errors import KafkaError

from services.scheduler.batches.parts import create_batch_parts, list_batch_chores
from services.scheduler.contacts.parts import list_contact_chores
from services.scheduler.intake import Intake
from services.scheduler.lists.parts import list_list_chores
from services.scheduler.mailings.parts import create_mailing_parts, list_mailing_chores
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.pacing.handing_out import HandingOut
from services.scheduler.pacing.parts import create_bulk_parts, list_bulk_chores
from services.scheduler.settings import WorkerSettings
from services.scheduler.tasks.parts import create_task_parts
from services.scheduler.waiting.parts import create_delayed_parts, read_expiry
from services.scheduler.waiting.store import SchedulerStore
from shared.batching import BatchConsumer
from shared.cleaning import Chore, Cleaner
from shared.database import PLAN_EACH_TIME, Database
from shared.health import HealthServer
from shared.kafka_access import KafkaAccess
from shared.process import Part
from shared.publisher import Publisher, PublisherUnavailable
from shared.retention import Demand, Memory
from shared.survey import Survey
from shared.topics import Topics, find_cluster_id


@dataclass(frozen=True, slots=True)
class _Producer:
    """A publisher that does not wait for Kafka at start: what needs it waits instead."""

    publisher: Publisher

    async def start(self) -> None:
        await self.publisher.start(wait=False)

    async def stop(self) -> None:
        await self.publisher.stop()


class _Cluster:
    """The cluster's id, asked for once, at the first batch."""

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka
        self._id: str | None = None

    async def find_id(self) -> str:
        """Raises PublisherUnavailable while Kafka is away."""
        if self._id is None:
            try:
                self._id = await find_cluster_id(self._kafka)
            except (KafkaError, OSError) as exc:
                raise PublisherUnavailable(f"kafka: {type(exc).__name__}") from exc
        return self._id


def create_worker(settings: WorkerSettings) -> Sequence[Part]:
    """The parts of the process, in the order they start."""
    topics = Topics(settings.topic_prefix)
    url = settings.database_url.get_secret_value()
    database = Database(url, application_name="milena-scheduler-worker", planning=PLAN_EACH_TIME)
    store = SchedulerStore(database)
    # Results stay uncompressed, so that any Kafka client reads them (R8).
    requests, results = (_create_publisher(settings, compress=compress) for compress in (True, False))
    delayed = create_delayed_parts(settings, topics, database, requests, results)
    handing_out, bulk_parts = create_bulk_parts(settings, topics, database, requests, results)
    consumer = _create_consumer(settings, topics, database, results, handing_out, on_cancellations=delayed.tell)
    health = HealthServer(
        settings.health_host,
        settings.health_port,
        {"kafka": consumer.check, "postgresql": database.check},
        settings.metrics_allowed_networks,
    )
    tasks = create_task_parts(settings, topics, database, results)
    watching: list[Part] = [
        _create_survey(settings, topics, tasks.memories),
        _create_cleaner(settings, database, store, tasks.chores),
    ]
    loops = [*delayed.parts, *tasks.parts, *bulk_parts, *create_batch_parts(database, results, topics)]
    loops += create_mailing_parts(database, results, topics)
    return [health, database, _Producer(requests), _Producer(results), *loops, consumer, *watching]


def _create_survey(settings: WorkerSettings, topics: Topics, memories: tuple[Memory, ...]) -> Survey:
    kept = timedelta(days=settings.delayed_retention_days)
    demand = Demand(
        (topics.requested, topics.tick),
        settings.event_limit,
        expiring=topics.requested,
        longest_expiry=timedelta(hours=settings.expiry_limit_hours),
        memories=(Memory("MILENA_DELAYED_RETENTION_DAYS", kept, (topics.requested,)), *memories),
    )
    return Survey(settings.kafka, demand)


def _create_cleaner(
    settings: WorkerSettings, database: Database, store: SchedulerStore, others: Sequence[Chore]
) -> Cleaner:
    kept = timedelta(days=settings.delayed_retention_days)
    chores = [
        Chore("scheduler.delayed", lambda limit: store.delete_ended(kept, limit)),
        Chore("scheduler.cancellation", store.delete_cancellations),
        *list_batch_chores(database, kept),
        *list_contact_chores(database, kept),
        *list_list_chores(database, kept),
        *list_mailing_chores(database, timedelta(days=settings.mailing_retention)),
        *list_bulk_chores(database, kept),
        *others,
    ]
    return Cleaner("scheduler", database, chores)


def _create_publisher(settings: WorkerSettings, *, compress: bool) -> Publisher:
    return Publisher(
        settings.kafka,
        client_id=f"milena-scheduler-{settings.slot}",
        compress=compress,
        event_limit=settings.event_limit,
        linger_ms=5 if compress else 0,
    )


def _create_consumer(
    settings: WorkerSettings,
    topics: Topics,
    database: Database,
    results: Publisher,
    handing_out: HandingOut,
    *,
    on_cancellations: Callable[[], None],
) -> BatchConsumer:
    intake = Intake(
        SchedulerStore(database),
        BulkStore(database),
        results,
        on_bulk=handing_out.wake,
        failed_topic=topics.failed,
        find_cluster_id=_Cluster(settings.kafka).find_id,
        expiry=read_expiry(settings),
        cancellation_kept=timedelta(hours=settings.cancellation_kept_hours),
        event_limit=settings.event_limit,
        on_cancellations=on_cancellations,
    )
    return BatchConsumer(
        f"{settings.topic_prefix}milena-scheduler",
        [topics.requested],
        intake.handle,
        kafka=settings.kafka,
        slot=settings.slot,
        event_limit=settings.event_limit,
    )
