"""The job runner: a Faust agent that marks runs ready, a due loop that runs them. A process of its own.

Jobs are other people's code. Here they can delay each other at most, never mail that is due, nor the ticks.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import faust
import structlog

from services.scheduler.mailings.audience_store import open_audiences
from services.scheduler.mailings.parts import create_engine
from services.scheduler.runs.job import Job
from services.scheduler.runs.marking import Marking
from services.scheduler.runs.running import RunPolicy, Runs
from services.scheduler.runs.store import RunStore, create_run_table
from services.scheduler.runs.threads import JobThreads
from services.scheduler.runs.tools import KafkaTools
from services.scheduler.settings import JobRunnerSettings
from services.scheduler.tasks.tick_store import TickStore
from shared.consuming import ConsumerOptions, FaustLane, Received, create_faust_app
from shared.database import PLAN_EACH_TIME, Database
from shared.due import DueLoop
from shared.health import HealthServer
from shared.lane import Lane
from shared.process import Part, fail_process
from shared.publisher import Publisher
from shared.retention import Demand
from shared.survey import Survey
from shared.topics import Topics

log = structlog.get_logger(__name__)

_LANE_LIMIT = 2000
_IDLE = timedelta(milliseconds=150)


@dataclass(frozen=True, slots=True)
class JobRunner:
    """What runs: Faust's app with its lane, and the parts that outlive it."""

    app: faust.App
    lane: FaustLane
    parts: list[Part]
    options: ConsumerOptions
    database: Database

    def is_paused(self) -> bool:
        """Whether nothing can be marked now, so that no progress is no fault of this process."""
        return self.database.away


def create_job_runner(settings: JobRunnerSettings, jobs: Mapping[str, Job]) -> JobRunner:
    """Build it. Must be called inside the loop it will run on."""
    topics = Topics(settings.topic_prefix)
    url = settings.database_url.get_secret_value()
    database = Database(url, pool_size=6, application_name="milena-scheduler-jobs", planning=PLAN_EACH_TIME)
    publisher = Publisher(
        settings.kafka,
        client_id=f"milena-scheduler-jobs-{settings.slot}",
        compress=True,
        event_limit=settings.event_limit,
        linger_ms=2,
    )
    marking = Marking(TickStore(database, timedelta(0), timedelta(0)), settings.event_limit)
    lane: FaustLane = Lane(marking.begin, Received.acknowledge, limit=_LANE_LIMIT)
    marking.lane = lane
    audiences = open_audiences(settings.database_url.get_secret_value())
    tools = KafkaTools(publisher, topics.requested, RunStore(database), create_engine(settings, database, audiences))
    runs, loop = _create_runs(settings, jobs, database, tools)
    marking.on_ready = loop.wake
    options = _consumer_options(settings, topics)
    health = HealthServer(
        settings.health_host,
        settings.health_port,
        {"postgresql": database.check},
        settings.metrics_allowed_networks,
    )
    survey = Survey(settings.kafka, Demand((topics.tick,), settings.event_limit))
    parts: list[Part] = [database, audiences, publisher, health, runs, loop, marking, survey]
    return JobRunner(create_faust_app(options, lane), lane, parts, options, database)


def _create_runs(
    settings: JobRunnerSettings, jobs: Mapping[str, Job], database: Database, tools: KafkaTools
) -> tuple[Runs, DueLoop]:
    store = RunStore(database)
    lease = timedelta(seconds=settings.job_lease_s)
    concurrency = settings.job_concurrency
    runs = Runs(
        database,
        store,
        jobs,
        settings.job_defaults,
        tools,
        JobThreads(stuck_limit=(concurrency + 1) // 2, on_stuck=fail_process, on_blocked=_die),
        RunPolicy(concurrency, lease, settings.job_time_limit_s, settings.job_drain_s),
    )
    table = create_run_table(runs.is_cautious)
    loop = DueLoop("runs", database, table, runs.begin, lease=lease, free=runs.find_room, idle=_IDLE)
    runs.on_room = loop.wake
    return runs, loop


def _die(why: str) -> None:
    """At once, as by a kill: so it counts against the runs that were on the loop, and the one at fault has an end."""
    log.error("exiting", why=why)
    os._exit(1)


def _consumer_options(settings: JobRunnerSettings, topics: Topics) -> ConsumerOptions:
    return ConsumerOptions(
        kafka=settings.kafka,
        group=f"{settings.topic_prefix}milena-scheduler-jobs",
        slot=settings.slot,
        topic=topics.tick,
        event_limit=settings.event_limit,
        datadir=settings.scratch_dir / f"scheduler-jobs-{settings.slot}-{os.getpid()}",
    )
