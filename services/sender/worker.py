"""The sender's object graph, built in one place."""

import os
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import faust
import structlog

from services.sender.admission import Admission
from services.sender.announcing import Announcer
from services.sender.bounding import Bound
from services.sender.intake import Intake
from services.sender.leases import Leases
from services.sender.pausing import Pauses
from services.sender.pipeline import Pipeline, PipelinePolicy
from services.sender.relay_building import create_relays
from services.sender.retries import RetryPolicy
from services.sender.routing import Relays
from services.sender.safety import Safety
from services.sender.settings import WorkerSettings
from services.sender.store import (
    DECIDED,
    DUE,
    DUE_TESTS,
    PartitionStore,
    PauseStore,
    SenderStore,
    SuppressionStore,
    UnknownStore,
    WaitingStore,
)
from services.sender.suppressing import create_suppressor
from services.sender.work import Work
from shared.cleaning import Chore, Cleaner
from shared.consuming import ConsumerOptions, FaustLane, Received, create_faust_app, set_paused
from shared.database import PLAN_EACH_TIME, Database
from shared.due import DueLoop
from shared.health import HealthServer
from shared.lane import Lane
from shared.metrics import STAGING_SAFETY
from shared.process import Part, fail_process
from shared.publisher import Publisher
from shared.retention import Demand, Memory
from shared.survey import Survey
from shared.topics import Topics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SenderWorker:
    """What runs: Faust's app with its lane, and the parts that outlive it."""

    app: faust.App
    lane: FaustLane
    relays: Relays
    database: Database
    parts: list[Part]
    options: ConsumerOptions
    pipeline: Pipeline

    def is_paused(self) -> bool:
        """Whether nothing can be sent now, so that no progress is no fault of this process."""
        return not self.relays.available or self.database.away or not self.pipeline.around.may_read


def create_worker(settings: WorkerSettings, cluster_id: str) -> SenderWorker:
    """Build the sender. Must be called inside the loop it will run on."""
    topics = Topics(settings.topic_prefix)
    url = settings.database_url.get_secret_value()
    database = Database(url, pool_size=6, application_name="milena-sender", planning=PLAN_EACH_TIME)
    publisher = Publisher(
        settings.kafka,
        client_id=f"milena-sender-{settings.slot}",
        compress=False,
        event_limit=settings.event_limit,
        linger_ms=2,
    )
    lease = timedelta(seconds=settings.test_lease)
    store = SenderStore(database, lease)
    pipeline = _create_pipeline(settings, store, Announcer(publisher, topics), cluster_id)
    around = pipeline.around
    admission = around.admission = _create_admission(database, pipeline)
    lane: FaustLane = Lane(pipeline.reading.begin, Received.acknowledge, limit=settings.lane_limit)
    lane.at_work = lambda: bool(pipeline.claiming.active)
    lane.on_close, lane.on_abandon = pipeline.close, pipeline.on_abandoned
    around.lane = lane
    relays, sharing = create_relays(settings, database, pipeline.transit)
    around.relays = relays
    pauses, bound = _create_brakes(settings, database, pipeline)
    leases = Leases(store, pipeline.claiming, lane.finish)
    pipeline.claiming.park_done = lambda work: _finish_parked(pipeline, lane, work)
    due = DueLoop("sender", database, DUE, pipeline.begin_due, lease=lease, free=pipeline.due_room)
    due_tests = DueLoop("tests", database, DUE_TESTS, pipeline.begin_due, lease=lease, free=pipeline.due_test_room)
    decided = DueLoop(
        "decided",
        database,
        DECIDED,
        pipeline.begin_decided,
        lease=lease,
        free=pipeline.decided_room,
        idle=timedelta(milliseconds=500),
    )
    options = _consumer_options(settings, topics)
    health = HealthServer(
        settings.health_host,
        settings.health_port,
        {"postgresql": database.check, "relay": relays.check, "records": admission.check, "waiting": bound.check},
        settings.metrics_allowed_networks,
        warnings={"relay": relays.warn, "recipients": settings.safety.warn, "sending": pauses.warn},
    )
    upkeep: list[Part] = [_create_survey(settings, topics), _create_cleaner(settings, store)]
    brakes: list[Part] = [pauses, bound]
    parts: list[Part] = [
        database,
        publisher,
        sharing,
        relays,
        leases,
        pipeline,
        admission,
        health,
        *brakes,
        due,
        due_tests,
        decided,
        *upkeep,
    ]
    app = create_faust_app(options, lane, admission)
    admission.set_paused = partial(set_paused, app)
    return SenderWorker(app, lane, relays, database, parts, options, pipeline)


def _create_admission(database: Database, pipeline: Pipeline) -> Admission:
    admission = Admission(PartitionStore(database))
    admission.on_skip, admission.on_release = pipeline.reading.skip, pipeline.reading.release
    return admission


def _create_pipeline(settings: WorkerSettings, store: SenderStore, announcer: Announcer, cluster_id: str) -> Pipeline:
    intake = Intake(
        cluster_id,
        settings.event_limit,
        timedelta(hours=settings.default_expiry_hours),
        timedelta(hours=settings.expiry_limit_hours),
        settings.message_id_domain,
    )
    _announce_safety(settings.safety)
    policy = PipelinePolicy(RetryPolicy(settings.retry_delays, settings.retry_jitter), settings.safety)
    return Pipeline(store, announcer, intake, policy, fail_process)


def _create_brakes(settings: WorkerSettings, database: Database, pipeline: Pipeline) -> tuple[Pauses, Bound]:
    pauses = pipeline.around.pauses = pipeline.claiming.pauses = Pauses(PauseStore(database))
    pauses.on_change = pipeline.on_pauses
    waiting = WaitingStore(database)
    bound = pipeline.around.bound = Bound(waiting, rows=settings.waiting_limit, octets=settings.waiting_bytes)
    bound.on_room = pipeline.reading.wake
    if settings.suppress_after_hard_bounce:
        lasting = timedelta(days=settings.hard_bounce_days)
        pipeline.around.suppress = create_suppressor(SuppressionStore(database), lasting)
    return pauses, bound


def _announce_safety(safety: Safety) -> None:
    """Say loudly what keeps mail from its recipients: meant for staging, in production it would be a calamity."""
    for setting, meaning in safety.list_notes().items():
        log.warning("mail does not go to everybody", setting=setting, meaning=meaning)
        STAGING_SAFETY.labels(setting=setting).set(1)


def _create_survey(settings: WorkerSettings, topics: Topics) -> Survey:
    demand = Demand(
        (topics.requested,),
        settings.event_limit,
        expiring=topics.requested,
        longest_expiry=timedelta(hours=settings.expiry_limit_hours),
        memories=(
            Memory("MILENA_LEDGER_RETENTION_DAYS", timedelta(days=settings.ledger_retention_days), (topics.requested,)),
        ),
    )
    return Survey(settings.kafka, demand)


def _create_cleaner(settings: WorkerSettings, store: SenderStore) -> Cleaner:
    kept = timedelta(days=settings.ledger_retention_days)
    chores = [
        Chore("sender.ledger", lambda limit: store.delete_settled(kept, limit)),
        Chore("sender.cancellation", store.delete_cancellations),
        Chore("sender.decision", lambda limit: UnknownStore(store.database).delete_decisions(kept, limit)),
        Chore("sender.suppression", SuppressionStore(store.database).delete_ended),
    ]
    return Cleaner("sender", store.database, chores)


def _consumer_options(settings: WorkerSettings, topics: Topics) -> ConsumerOptions:
    return ConsumerOptions(
        kafka=settings.kafka,
        group=f"{settings.topic_prefix}milena-sender",
        slot=settings.slot,
        topic=topics.requested,
        event_limit=settings.event_limit,
        datadir=settings.scratch_dir / f"sender-{settings.slot}-{os.getpid()}",
        drain_s=settings.drain_timeout,
        stalled_after_s=settings.stalled_after,
        max_poll_interval_s=settings.max_poll_interval,
    )


def _finish_parked(pipeline: Pipeline, lane: FaustLane, work: Work) -> None:
    for ticket in pipeline.claiming.end(work):
        lane.finish(ticket)
