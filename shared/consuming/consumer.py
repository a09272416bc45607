"""The consumer: Faust's, made to commit the lane's head, to abandon, to read committed records, to bound its bytes.

Faust starts two tasks for every message it hands on, and its fetcher waits for them. So here one Faust message is a
chunk: all records that one poll brought. The lane still knows every record by itself.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import faust
import mode
import structlog
from aiokafka.structs import ConsumerRecord
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, EventT, StreamT
from faust.types.tuples import ConsumerMessage

from shared.bounded_batches import guard_batches
from shared.kafka_access import KafkaAccess
from shared.lane import Lane, Ticket
from shared.membership import REBALANCE_S, SESSION_S
from shared.topics import EVENT_HEADROOM

log = structlog.get_logger(__name__)
FAUST_LOG = logging.getLogger("faust.milena")  # Faust's own chatter about our classes goes where its other lines go

REVOCATION_GRACE_S = 2.0
DRAIN_S = 30.0
WATCHDOG_S = 60.0
_BUFFERED_BYTES = 32 * 1024 * 1024
_RECORD_BYTES = 2048  # what a record takes beside its value, before anybody has read it
NEVER_S = 604_800.0  # a pause of consumption must not cost the membership: Faust does not rejoin

Partition = TP


class Chunk(ConsumerMessage):
    """The records of one poll, by partition and in its order, as one message of Faust's.

    Faust knows it by the first partition, and by that one's last offset.
    """

    __slots__ = ("found", "unfinished")

    def __init__(self, found: Mapping[TP, Sequence[ConsumerRecord]], generation_id: int) -> None:
        tp, records = next(iter(found.items()))
        super().__init__(
            tp.topic,
            tp.partition,
            records[-1].offset,
            0.0,
            0,
            None,
            None,
            None,
            None,
            0,
            0,
            tp,
            generation_id=generation_id,
        )
        self.found = found
        self.unfinished = len(found)


@dataclass(frozen=True, slots=True)
class Received:
    """A record, and the event of its chunk where it is the last one of its partition."""

    record: ConsumerRecord
    event: EventT | None

    def acknowledge(self) -> None:
        """The lane acknowledges each partition in order: with the last records the whole chunk is done."""
        if self.event:
            self.event.message.unfinished -= 1
            if not self.event.message.unfinished:
                self.event.ack()


FaustTicket = Ticket[Received]
FaustLane = Lane[Received]


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """Who consumes what. `group` and `slot` make the static member `<group>-<slot>`."""

    kafka: KafkaAccess
    group: str
    slot: int
    topic: str
    event_limit: int
    datadir: Path
    drain_s: float = DRAIN_S
    stalled_after_s: float = 420.0
    max_poll_interval_s: float = NEVER_S


class Admission(Protocol):
    """Looks at records before they are read, and hears how an assignment ended."""

    async def before(self, tp: TP, offset: int) -> None:
        """A record is about to enter the lane."""

    async def after(self, ticket: FaustTicket) -> None:
        """It has entered."""

    async def leave(self) -> None:
        """The assignment has ended. May be called again."""


class _Everything:
    """Admits everything."""

    async def before(self, tp: TP, offset: int) -> None:
        """Nothing to do."""

    async def after(self, ticket: FaustTicket) -> None:
        """Nothing to do."""

    async def leave(self) -> None:
        """Nothing to do."""


class ReadCommittedThread(driver.AIOKafkaConsumerThread):
    """Faust reads committed records only with exactly_once; mail of aborted transactions must never be sent."""

    logger = FAUST_LOG

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        return consumer


class LaneConsumer(driver.Consumer):
    """Commits the lane's head, before a revocation too; abandons what does not end; bounds what it buffers."""

    logger = FAUST_LOG
    lane: FaustLane
    admission: Admission
    drain_s: float

    def _new_consumer_thread(self) -> ReadCommittedThread:
        return ReadCommittedThread(self, loop=self.loop, beacon=self.beacon)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> list[TP]:
        return [tp for tp in list(self.lane.heads) if topics is None or tp in topics or tp.topic in topics]

    def _new_offset(self, tp: TP) -> int | None:
        # The lane knows the head; Faust's own lists of acks are only kept short.
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self.lane.heads.pop(tp, None)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Faust's record of holes in offsets: nobody reads it now, and it would only grow."""

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Chunk]]:
        """Fetch chunks, while what is buffered stays within its bound in bytes. As Faust's own, but for the chunks."""
        while self.lane.buffered_bytes > _BUFFERED_BYTES and self.flow_active and not self.should_stop:
            if not self.lane.busy:
                # Of what Faust drops (of an assignment that has ended) nobody says so: begin anew.
                self.lane.buffered_bytes = 0
            await asyncio.sleep(0.005)
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            await self._seek_back(records)
            return
        wanted = self._sift(records, active)
        if not wanted:
            return
        self.lane.buffered_bytes += sum(measure(record) for found in wanted.values() for record in found)
        chunk = Chunk(wanted, generation)
        yield chunk.tp, chunk
        if self.flow_active and self.app.consumer_generation_id == generation:
            # Of the partition that it knows the chunk by Faust does this itself.
            self._read_offset.update({tp: found[-1].offset for tp, found in wanted.items()})

    def _sift(
        self, records: Mapping[TP, Sequence[ConsumerRecord]], active: Container[TP] | None
    ) -> dict[TP, list[ConsumerRecord]]:
        """What has not been handed on before, of partitions that are ours.

        Also of one that was paused while the poll was under way: nobody would ever fetch it again.
        """
        wanted = {}
        for tp, found in records.items():
            if active is None or tp in active or tp in self._buffered_partitions or tp in self._paused_partitions:
                read = self._read_offset[tp] or 0
                fresh = [record for record in found if record.offset >= read]
                if fresh:
                    wanted[tp] = fresh
        return wanted

    async def _seek_back(self, records: Mapping[TP, Sequence[ConsumerRecord]]) -> None:
        """Records that came while the flow stood are nobody's: they are to be fetched again.

        Faust, like aiokafka, does not move in a partition of which nothing is committed yet: at the first rebalance
        of a young group what had been fetched of it was passed over for good.
        """
        try:
            await self.perform_seek()
            first = {tp: found[0].offset for tp, found in records.items() if found}
            fresh = {tp: offset for tp, offset in first.items() if not self._committed_offset.get(tp)}
            if fresh:
                await self.seek_wait(fresh)
        except Exception as exc:  # a rebalance is under way; it seeks, too
            log.info("seek failed", error=type(exc).__name__)

    def on_buffer_drop(self, tp: TP) -> None:
        """Faust would fetch again what somebody has paused, once its buffer is low."""
        if tp in self._paused_partitions:
            self._buffered_partitions.discard(tp)
        else:
            super().on_buffer_drop(tp)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit before Faust forgets what was acknowledged."""
        await self._commit_heads()
        if self.app.should_stop:
            # The drain goes on without these offsets: they are somebody else's now, who must not think we died.
            self.lane.abandon()
            self.lane.heads.clear()
            await self.admission.leave()
            return
        await super().on_partitions_revoked(revoked)

    def close(self) -> None:
        """Faust's answer to a rebalance during the drain: nothing could be committed after it, and heartbeats spin."""

    async def wait_empty(self) -> None:
        """Called at a revocation and at shutdown: give work in flight its grace, then abandon it (P8)."""
        stopping = self.app.should_stop or self.should_stop
        if stopping:
            self.lane.close()
        await self.admission.leave()  # before the wait: others may be given our partitions while we still drain
        # Faust asks twice at a stop: there is one drain.
        end = (self.lane.closing_since or 0.0) + self.drain_s if stopping else time.monotonic() + REVOCATION_GRACE_S
        # At shutdown only what has begun is worth waiting for: nothing new begins, the rest comes again.
        going_on = self.lane.at_work if stopping else (lambda: self.lane.busy)
        while going_on() and time.monotonic() < end:
            await asyncio.sleep(0.02)
        left = self.lane.abandon()
        if left:
            log.warning("abandoned", events=left, stopping=stopping)
        await self._commit_heads()
        self.lane.heads.clear()  # a head left behind must not be committed under a later assignment
        self._unacked_messages.clear()
        await self.commit_and_end_transactions()
        await self.admission.leave()

    async def _commit_heads(self) -> None:
        """Faust's commit does nothing while another one runs: ask until the heads are gone."""
        for _ in range(3):
            await self.commit()
            if not self.lane.heads:
                return


def create_faust_app(options: ConsumerOptions, lane: FaustLane, admission: Admission | None = None) -> faust.App:
    """A Faust app with one agent that does nothing but feed the lane."""
    guard_batches(options.event_limit)
    admission = admission or _Everything()
    app = faust.App(
        options.group,
        broker=[f"kafka://{server.strip()}" for server in options.kafka.bootstrap_servers.split(",")],
        broker_credentials=_build_credentials(options.kafka),
        processing_guarantee="at_least_once",
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
        broker_client_id=f"{options.group}-{options.slot}",
        broker_commit_interval=0.5,
        broker_commit_every=500,
        broker_max_poll_records=500,
        broker_max_poll_interval=options.max_poll_interval_s,
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=3.0,
        broker_rebalance_timeout=REBALANCE_S,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{options.group}-{options.slot}",
        consumer_max_fetch_size=options.event_limit + EVENT_HEADROOM,
        stream_wait_empty=True,
        stream_buffer_maxsize=4096,
        agent_supervisor=mode.CrashingSupervisor,
        autodiscover=False,
        datadir=str(options.datadir),
    )
    consumer = type("Consumer", (LaneConsumer,), {"lane": lane, "admission": admission, "drain_s": options.drain_s})
    transport = type("Transport", (driver.Transport,), {"Consumer": consumer})
    app.transport = transport(app.conf.broker, app, app.loop)
    topic = app.topic(options.topic, value_type=bytes, value_serializer="raw", key_serializer="raw")

    async def feed(stream: StreamT[bytes]) -> None:
        async for event in stream.noack().events():
            generation = lane.generation
            for tp, received in _open_chunk(event):
                record = received.record
                await admission.before(tp, record.offset)
                ticket = await lane.submit(received, tp, record.offset, measure(record), generation)
                if ticket:
                    await admission.after(ticket)

    app.agent(topic, name=f"{options.group}.feed")(feed)
    return app


def _build_credentials(kafka: KafkaAccess) -> faust.SASLCredentials | faust.SSLCredentials | None:
    """What Faust's driver hands to aiokafka's client in the consumer's thread."""
    if kafka.has_login:
        return faust.SASLCredentials(
            username=kafka.username, password=kafka.password, ssl_context=kafka.tls, mechanism=kafka.mechanism
        )
    return faust.SSLCredentials(kafka.tls) if kafka.has_tls else None


def measure(record: ConsumerRecord) -> int:
    """The bytes a buffered record is counted with."""
    return len(record.value or b"") + _RECORD_BYTES


def _open_chunk(event: EventT) -> Iterator[tuple[TP, Received]]:
    for tp, (*others, last) in event.message.found.items():
        for record in others:
            yield tp, Received(record, None)
        yield tp, Received(last, event)


def set_paused(app: faust.App, tp: TP, paused: bool) -> None:
    """Stop or resume fetching one partition."""
    (app.consumer.pause_partitions if paused else app.consumer.resume_partitions)({TP(tp.topic, tp.partition)})
