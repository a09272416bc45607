"""Many records become one database write: an aiokafka consumer that works batch by batch.

Fetch, handle, commit; in that order, so a batch may be handled twice and `handle` must be idempotent. A commit may
tell of several batches at once. A handler may keep records back until later ones have come: it says from which offsets
on, and these are not committed. Records that cannot be handled because an outside system is away are tried again for
as long as it takes; nothing is skipped.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from shared.bounded_batches import guard_batches
from shared.events import Coordinates, read_timestamp
from shared.kafka_access import KafkaAccess
from shared.membership import REBALANCE_S, SESSION_S, watch_membership
from shared.metrics import BATCH_SECONDS
from shared.positions import watch_positions
from shared.process import fail_process
from shared.retrying import retry_while_unavailable
from shared.topics import EVENT_HEADROOM

log = structlog.get_logger(__name__)

_BATCH_BYTES, _DRAINED_AT_ONCE = 4 * 1024 * 1024, 100  # objects take many times the bytes they are read from
_FETCHED_AT_LEAST = 256 * 1024
# A batch costs by itself as much as twenty records do. Under load the next one is given time to grow, four times as
# long as this one took; after a rest, and behind a backlog, nothing waits.
_COMPANY, _LONGEST_COMPANY_S = 4, 0.25
_COMMIT_EVERY_S = 0.5  # under load: a commit for every batch was a fifth of what a small one costs
_LAST_COMMIT_S = 2.0
_LEAVING_S = 1.0
_NEVER_MS = 604_800_000  # a pause of consumption must not cost the membership


class Record(NamedTuple):
    """One record as a batch handler sees it; `timestamp_ms` is the broker's."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def coordinates(self) -> Coordinates:
        """Where the record lies."""
        return Coordinates(self.topic, self.partition, self.offset, self.timestamp_ms)

    @property
    def time(self) -> datetime:
        """The broker's time."""
        return read_timestamp(self.timestamp_ms)

    def header(self, name: str) -> str | None:
        """One header's text."""
        for key, value in self.headers:
            if key == name and value is not None:
                return value.decode("ascii", "replace")
        return None


Owed = Mapping[tuple[str, int], int]
"""By topic and partition the first offset that has been read and must not be committed yet."""
Handle = Callable[[Sequence[Record]], Awaitable[Owed | None]]


class BatchConsumer:
    """Consumes `topics` in the group `group`, as the static member `<group>-<slot>`.

    While a handler owes something it is called at least about twice a second, with no records where none have come.
    A handler that raises anything but Unavailable is a bug: the process ends with exit code 1 (the others
    stop cleanly) and the supervisor starts it again at the last commit.
    """

    def __init__(
        self,
        group: str,
        topics: Sequence[str],
        handle: Handle,
        *,
        kafka: KafkaAccess,
        slot: int,
        event_limit: int,
        max_records: int = 1000,
        company_s: float = _LONGEST_COMPANY_S,
    ) -> None:
        guard_batches(event_limit)
        self._kafka = kafka
        self._group = group
        self._topics = topics
        self._handle = handle
        self._max_records = max_records
        self._options = {
            **kafka.options(),
            "group_id": group,
            "group_instance_id": f"{group}-{slot}",
            "client_id": f"{group}-{slot}",
            "isolation_level": "read_committed",
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "max_partition_fetch_bytes": event_limit + EVENT_HEADROOM,
            "max_poll_interval_ms": _NEVER_MS,
            "session_timeout_ms": int(SESSION_S * 1000),
            "heartbeat_interval_ms": 3_000,
            "rebalance_timeout_ms": int(REBALANCE_S * 1000),
            # Many records at once, or whatever there is after the wait: an answer, a transaction and a commit for every
            # few records cost more than the records.
            "fetch_min_bytes": _FETCHED_AT_LEAST,
            "fetch_max_wait_ms": 100,
        }
        self._task: asyncio.Task[None] | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._owed: Owed = {}
        self._working_since: float | None = None
        self._company_s = company_s
        self._company_until = 0.0
        self._handled: dict[TopicPartition, int] = {}  # heads that are not committed yet
        self._committed_at = 0.0
        self._membership = watch_membership(lambda: getattr(self._consumer, "_coordinator", None), kafka)
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join the group (waiting for Kafka where it is away) and begin in the background."""
        watch_positions()
        self._task = asyncio.create_task(self._run(), name=f"batches-{self._group}")
        self._task.add_done_callback(self._on_end)
        self._watch = asyncio.create_task(self._watch_membership(), name=f"membership-{self._group}")

    async def stop(self) -> None:
        """Finish the batch at work (up to 20 s), commit it, leave."""
        if self._watch:
            self._watch.cancel()
        task, self._task = self._task, None
        if task and not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=20)

    async def check(self) -> str | None:
        """For /readyz: None while joined and moving."""
        if self._consumer is None or not self._consumer.assignment():
            return "has no partitions assigned yet"
        if self._working_since and time.monotonic() - self._working_since > 30:
            return "has been working on one batch for over 30 s"
        return None

    async def _watch_membership(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            fault = await self._membership.find_fault()
            if fault:
                fail_process(f"{self._group}: membership lost, {fault}")
                return

    async def _run(self) -> None:
        consumer = await self._connect()
        try:
            while True:
                fetched = await self._fetch(consumer)
                if not fetched and not self._owed:
                    await self._commit(consumer)
                else:
                    work = asyncio.ensure_future(self._work(consumer, fetched))
                    try:
                        await asyncio.shield(work)
                    except asyncio.CancelledError:
                        await asyncio.wait([work], timeout=15)
                        raise
        finally:
            self._consumer = None
            with contextlib.suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(_LAST_COMMIT_S):
                    await self._commit(consumer)
            with contextlib.suppress(KafkaError):
                await consumer.stop()

    async def _fetch(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, list[object]]:
        """What is there, and comes while the batch before lets it wait for company (`_company_until`), up to
        `max_records` and about `_BATCH_BYTES`: compressed, it may be much more (R8)."""
        fetched: dict[TopicPartition, list[object]] = {}
        count = size = 0
        while count < self._max_records and size < _BATCH_BYTES:
            wait_s = max(self._company_until - time.monotonic(), 0) if fetched else self._rest_s()
            more = await consumer.getmany(timeout_ms=int(wait_s * 1000), max_records=_DRAINED_AT_ONCE)
            if not more:
                break
            for tp, records in more.items():
                fetched.setdefault(tp, []).extend(records)
                count += len(records)
                size += sum(len(each.value or b"") for each in records)
        return fetched

    def _rest_s(self) -> float:
        """How long to wait for the first record of a batch: not beyond the time of a commit."""
        due_s = self._committed_at + _COMMIT_EVERY_S - time.monotonic() if self._handled else _COMMIT_EVERY_S
        return max(due_s, 0.0)

    async def _connect(self) -> AIOKafkaConsumer:
        while True:
            consumer = AIOKafkaConsumer(*self._topics, **self._options)
            try:
                await consumer.start()
            except (KafkaError, OSError) as exc:
                await consumer.stop()
                why = (await self._kafka.explain_absence()).why
                log.warning("kafka unreachable, trying again", group=self._group, error=type(exc).__name__, why=why)
                await asyncio.sleep(1.0)
            except asyncio.CancelledError:
                await _leave_joining(consumer)
                raise
            else:
                self._consumer = consumer
                return consumer

    async def _work(self, consumer: AIOKafkaConsumer, fetched: dict[TopicPartition, list[object]]) -> None:
        self._working_since = started = time.monotonic()
        records = [_to_record(each) for batch in fetched.values() for each in batch]
        owed: Owed | None = await retry_while_unavailable(lambda: self._handle(records), self._group)
        self._owed = owed or {}
        self._handled |= {tp: batch[-1].offset + 1 for tp, batch in fetched.items()}  # type: ignore[attr-defined]
        if time.monotonic() - self._committed_at >= _COMMIT_EVERY_S:
            await self._commit(consumer)
        self._working_since = None
        took = time.monotonic() - started
        self._company_until = started + took + min(took * _COMPANY, self._company_s)
        BATCH_SECONDS.labels(consumer=self._group).observe(took)

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        """Tell the broker what has been handled. Partitions that are not ours any more are read again by others."""
        heads = {
            tp: min(head, self._owed.get((tp.topic, tp.partition), head))
            for tp, head in self._handled.items()
            if tp in consumer.assignment()
        }
        if heads:
            self._committed_at = time.monotonic()
            try:
                await consumer.commit(heads)
            except (CommitFailedError, IllegalStateError):
                log.info("batch not committed: partitions were reassigned", group=self._group)
        self._handled = {tp: head for tp, head in self._handled.items() if heads.get(tp, head) < head}

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception():
            log.error("batch consumer failed", group=self._group, exc_info=task.exception())
            fail_process(f"batch consumer {self._group} failed")


async def _leave_joining(consumer: AIOKafkaConsumer) -> None:
    """Asked to end while it joins: nothing is held, and the group's answer may be long in coming.

    Without this aiokafka told of connections that nobody closed.
    """
    with contextlib.suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(_LEAVING_S):
            await consumer.stop()
    await consumer._client.close()  # what stop() does last, and does not come to where it is cut short


def _to_record(message: object) -> Record:
    return Record(
        message.topic,  # type: ignore[attr-defined]
        message.partition,  # type: ignore[attr-defined]
        message.offset,  # type: ignore[attr-defined]
        message.timestamp,  # type: ignore[attr-defined]
        message.value,  # type: ignore[attr-defined]
        tuple(message.headers),  # type: ignore[attr-defined]
    )
