"""The Kafka side: the three email topics into the read model, batch by batch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from uuid import UUID

from aiokafka.errors import KafkaError

from services.gateway.ageing import create_cleaner
from services.gateway.buckets import days_ahead
from services.gateway.company import Company, Place
from services.gateway.gauges import Gauges
from services.gateway.lines import Observation, find_earliest
from services.gateway.observing import observe
from services.gateway.partitions import Partitions
from services.gateway.projection import Mail, merge_all
from services.gateway.rows import line_to_row, mail_to_row, row_to_mail
from services.gateway.run_store import ReconciliationStore
from services.gateway.settings import WorkerSettings
from services.gateway.store import PartitionStore, ProjectionStore
from shared.batching import BatchConsumer, Record
from shared.database import PLAN_EACH_TIME, Database
from shared.health import HealthServer
from shared.kafka_access import KafkaAccess
from shared.metrics import RECORDS_PROJECTED
from shared.process import Part
from shared.refreshing import Refresher
from shared.retention import Demand, Memory
from shared.retrying import Unavailable
from shared.survey import Survey
from shared.topics import Topics, find_cluster_id
from shared.turns import take_turns

_GROUP = "milena-gateway"
_WRITTEN_AT_ONCE = 2000  # observations; a bulk event brings up to 500


class ClusterUnknown(Unavailable):
    """Kafka does not tell its cluster id at the moment."""


class Projector:
    """Takes batches of records into the read model. Repeating a batch changes nothing.

    `cluster_id` is part of the identity of mails published without an id; None: to be asked of the broker. `store`
    writes elsewhere than into the live tables. With `company` requests and results of paced mail wait in it for each
    other.
    """

    def __init__(
        self,
        database: Database,
        *,
        kafka: KafkaAccess,
        event_limit: int,
        cluster_id: str | None = None,
        store: ProjectionStore | None = None,
        company: Company | None = None,
    ) -> None:
        self._store = store or ProjectionStore(database)
        self._partitions = Partitions(PartitionStore(database))
        self._kafka = kafka
        self._event_limit = event_limit
        self._cluster_id = cluster_id
        self._company = company

    async def project(self, records: Sequence[Record]) -> dict[Place, int]:
        """Take one batch, or none: time has passed. Returns in which partitions something read is not written yet, and
        the first offset of it. Raises Unavailable where nothing, or not everything, could be written."""
        cluster_id = await self._find_cluster_id()
        seen: list[Observation] = []
        async for record in take_turns(records):
            seen += observe(record, cluster_id, self._event_limit)
            if len(seen) >= _WRITTEN_AT_ONCE:
                await self._take(seen)
                seen = []
        await self._take(seen)
        owed = await self._end_waiting(self._company) if self._company else {}
        for topic, count in Counter(record.topic for record in records).items():
            RECORDS_PROJECTED.labels(topic=topic).inc(count)
        return owed

    async def _take(self, seen: list[Observation]) -> None:
        if self._company is None:
            await self._write_fenced(seen)
            return
        now, later = self._company.meet(seen)
        await self._write_fenced(now)
        self._company.forget(now)
        self._company.keep(later)

    async def _end_waiting(self, company: Company) -> dict[Place, int]:
        due = company.find_due()
        for start in range(0, len(due), _WRITTEN_AT_ONCE):
            await self._write_fenced(due[start : start + _WRITTEN_AT_ONCE])
        company.forget(due)
        return company.owed

    async def _write_fenced(self, seen: list[Observation]) -> None:
        if seen:
            async with self._store.fenced():
                await self._write(seen)

    async def _write(self, seen: list[Observation]) -> None:
        arrivals = {observed.line.email_id: observed.line.at for observed in reversed(seen)}
        buckets = await self._store.find_buckets(arrivals)
        newest = max(observed.line.at for observed in seen)
        await self._partitions.provide([*buckets.values(), *days_ahead(newest)])
        # Lines first: who reads that a mail is sent finds the event that says so.
        lines = find_earliest(observed.line for observed in seen)
        await self._store.add_events([line_to_row(line, buckets[line.email_id]) for line in lines])
        await self.save(merge_all(observed.mail for observed in seen if observed.mail), buckets)

    async def save(self, mails: dict[UUID, Mail], buckets: Mapping[UUID, date]) -> None:
        """Merge mails into what is stored of them."""
        mails = await self._guess(mails, buckets)
        while mails:
            mails = await self._save(mails, buckets)

    async def _guess(self, mails: dict[UUID, Mail], buckets: Mapping[UUID, date]) -> dict[UUID, Mail]:
        """Write what most mails go through without reading them: a request is the first that is known of a mail, and
        its end the second. The statements hold the guess against the row. Returns the mails for which it was wrong."""
        new = [mail_to_row(mail, buckets[email_id], 1) for email_id, mail in mails.items() if mail.requests]
        ended = [mail_to_row(mail, buckets[email_id], 2) for email_id, mail in mails.items() if mail.tells_the_end]
        written = await self._store.add(new) | await self._store.settle(ended)
        if len(written) == len(mails):
            return {}
        return {email_id: mail for email_id, mail in mails.items() if email_id not in written}

    async def _save(self, mails: dict[UUID, Mail], buckets: Mapping[UUID, date]) -> dict[UUID, Mail]:
        """Merge into what is stored. Returns the mails that another worker wrote in between, to be merged again."""
        stored = await self._store.load({email_id: buckets[email_id] for email_id in mails})
        rows = []
        for email_id, mail in mails.items():
            row = stored.get(email_id)
            known = row_to_mail(row) if row else None
            merged = known.merge(mail) if known else mail
            if merged != known:
                rows.append(mail_to_row(merged, buckets[email_id], row["version"] + 1 if row else 1))
        written = await self._store.save(rows)
        return {row["id"]: mails[row["id"]] for row in rows if row["id"] not in written}

    async def _find_cluster_id(self) -> str:
        if self._cluster_id is None:
            try:
                self._cluster_id = await find_cluster_id(self._kafka)
            except (KafkaError, OSError) as exc:
                raise ClusterUnknown(f"kafka: {type(exc).__name__}") from exc
        return self._cluster_id


def create_worker(settings: WorkerSettings) -> list[Part]:
    """The worker's parts, in the order they start."""
    url = settings.database_url.get_secret_value()
    database = Database(url, application_name="milena-gateway-worker", planning=PLAN_EACH_TIME)
    projector = Projector(database, kafka=settings.kafka, event_limit=settings.event_limit, company=Company())
    topics = Topics(settings.topic_prefix)
    consumer = BatchConsumer(
        f"{settings.topic_prefix}{_GROUP}",
        [topics.requested, topics.sent, topics.failed],
        projector.project,
        kafka=settings.kafka,
        slot=settings.slot,
        event_limit=settings.event_limit,
    )
    checks = {"kafka": consumer.check, "database": database.check}
    health = HealthServer(settings.health_host, settings.health_port, checks, settings.metrics_allowed_networks)
    read = (topics.requested, topics.sent, topics.failed)
    kept = timedelta(days=settings.read_model_retention_days)
    demand = Demand(read, settings.event_limit, memories=(Memory("MILENA_READ_MODEL_RETENTION_DAYS", kept, read),))
    upkeep: list[Part] = [
        Refresher(Gauges(ReconciliationStore(database)).refresh),
        Survey(settings.kafka, demand),
        create_cleaner(database, kept),
    ]
    return [Connections(database), health, consumer, *upkeep]


class Connections:
    """Closes the database after everything that uses it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(self) -> None:
        """Nothing: connections are made as they are needed."""

    async def stop(self) -> None:
        """Close them."""
        await self._database.close()
