"""Publishing to Kafka so that an acknowledgement means what it says: idempotent producer, acks=all.

aiokafka's idempotent producer is to give no batch up: what was handed to it goes out when Kafka is back. So there
are two ways to fail, and callers must tell them apart: refused before anything was handed over
(PublisherUnavailable), and handed over without an answer in time (OutcomeUnknown).

Batches are numbered for each partition. A number that never arrives makes Kafka refuse all that follow it, for as long
as the producer lives: such a producer is replaced by a fresh one.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from shared.failpoints import PUBLISHER_ACKNOWLEDGED, AnswerLost, has_failpoint, reach_failpoint
from shared.kafka_access import KafkaAccess
from shared.metrics import PUBLISH_SECONDS
from shared.producing import OUT_OF_STEP, Ack, Message, create_producer, hand_over, note_seen
from shared.retrying import Unavailable
from shared.topics import EVENT_HEADROOM

log = structlog.get_logger(__name__)

_TURN = 250  # records handed over before others have their turn


class PublishError(Exception):
    """Kafka did not take the event."""


class PublisherUnavailable(PublishError, Unavailable):
    """Kafka is known to be away; nothing was written."""


class OutcomeUnknown(PublishError):
    """Handed to the producer, not acknowledged in time: the event may still be published."""


class EventTooLarge(PublishError):
    """The event exceeds what Kafka lets through; nothing was written."""


class Publisher:
    """One idempotent producer.

    `compress`: for topics only our own consumers must read (`email.requested`); result topics stay plain (R8).
    `ack_timeout_s`: how long `publish` waits, and after which silence the producer counts as unavailable (P1).
    """

    def __init__(
        self,
        kafka: KafkaAccess,
        *,
        client_id: str,
        compress: bool,
        event_limit: int,
        linger_ms: int = 0,
        ack_timeout_s: float = 5.0,
    ) -> None:
        self._kafka = kafka
        self._options: dict[str, Any] = {
            **kafka.options(),
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": True,
            "compression_type": "lz4" if compress else None,
            "linger_ms": linger_ms,
            "max_batch_size": 128 * 1024,
            "max_request_size": event_limit + EVENT_HEADROOM,
            "request_timeout_ms": 10_000,
        }
        self._ack_timeout_s = ack_timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._starting: asyncio.Task[None] | None = None
        self._replaced: asyncio.Future[None] | None = None  # resolved when the producer at work is of no use any more
        self._pending: deque[tuple[float, Ack]] = deque()

    async def start(self, *, wait: bool = True) -> None:
        """Connect. With `wait` false a missing Kafka is tried again in the background."""
        if wait:
            await self._connect()
        else:
            self._starting = asyncio.create_task(self._connect_eventually())

    async def _connect(self) -> None:
        producer = create_producer(self._options)
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        self._replaced = asyncio.get_running_loop().create_future()
        self._producer = producer

    async def _connect_eventually(self) -> None:
        while True:
            try:
                return await self._connect()
            except (KafkaError, OSError) as exc:
                why = (await self._kafka.explain_absence()).why
                log.warning("kafka unreachable, trying again", error=type(exc).__name__, why=why)
                await asyncio.sleep(1.0)

    def _replace(self, broken: AIOKafkaProducer) -> None:
        """Its numbers are out of step with Kafka's, or its routine has ended: only a fresh producer goes on."""
        if self._producer is broken:
            log.warning("producer out of step, replacing it")
            self._producer = None
            self._pending.clear()
            if self._replaced:
                self._replaced.set_result(None)
            self._starting = asyncio.create_task(self._begin_anew(broken))

    async def _begin_anew(self, broken: AIOKafkaProducer) -> None:
        with contextlib.suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(self._ack_timeout_s):
                await broken.stop()  # what other partitions still wait for goes out
        await self._connect_eventually()

    async def stop(self) -> None:
        """Flush for at most the acknowledgement timeout, then close."""
        if self._starting:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        if self._producer:
            # stop() waits for every pending batch, without end while Kafka is away.
            with contextlib.suppress(TimeoutError, KafkaError):
                async with asyncio.timeout(self._ack_timeout_s):
                    await self._producer.stop()

    @property
    def available(self) -> bool:
        """False while there is no connection, or what was sent is not acknowledged for too long."""
        if self._producer is None:
            return False
        self._forget_acknowledged()
        return not self._pending or time.monotonic() - self._pending[0][0] < self._ack_timeout_s

    async def send(self, message: Message) -> Ack:
        """Hand one record over; the future resolves at the broker's acknowledgement.

        Raises PublisherUnavailable, EventTooLarge.
        """
        producer = self._producer
        if producer is None:
            raise PublisherUnavailable("kafka is not connected")
        try:
            ack: Ack = await producer.send(message.topic, key=message.key, value=message.value, headers=message.headers)
        except MessageSizeTooLargeError as exc:
            raise EventTooLarge("the event is larger than the topic allows") from exc
        except KafkaError as exc:
            raise self._on_refused(producer, exc) from exc
        self._watch(ack)
        return ack

    async def _hand_over(self, messages: Sequence[Message], acks: list[Ack]) -> None:
        """`acks` gets those of what was handed over, also where the rest was not: see `hand_over`."""
        producer, begun = self._producer, len(acks)
        if producer is None:
            raise PublisherUnavailable("kafka is not connected")
        try:
            await hand_over(producer, messages, self._options["max_request_size"], acks)
        except MessageSizeTooLargeError as exc:
            raise EventTooLarge("the event is larger than the topic allows") from exc
        except KafkaError as exc:
            raise self._on_refused(producer, exc) from exc
        finally:
            for ack in dict.fromkeys(acks[begun:]):
                self._watch(ack)

    def _on_refused(self, producer: AIOKafkaProducer, exc: KafkaError) -> PublisherUnavailable:
        if producer._sender.sender_task.done():
            self._replace(producer)
        return PublisherUnavailable(f"kafka refused the event: {type(exc).__name__}")

    def _watch(self, ack: Ack) -> None:
        self._forget_acknowledged()
        if not self._pending or time.monotonic() - self._pending[-1][0] > 0.1:
            self._pending.append((time.monotonic(), ack))  # a sample every 100 ms is enough to see silence

    def _forget_acknowledged(self) -> None:
        while self._pending and self._pending[0][1].done():
            self._pending.popleft()

    async def publish(self, message: Message) -> None:
        """Publish one record and wait for its acknowledgement.

        Raises PublisherUnavailable (nothing written), OutcomeUnknown (may still be written), EventTooLarge.
        """
        if not self.available:
            raise PublisherUnavailable("kafka does not acknowledge")
        started = time.monotonic()
        producer = self._producer
        ack: Ack | None = None
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                ack = await self.send(message)
                await asyncio.shield(ack)
                await _reach_acknowledged([message])
        except TimeoutError as exc:
            if ack is None:
                raise PublisherUnavailable("kafka has no leader for the topic") from exc
            ack.add_done_callback(note_seen)
            raise OutcomeUnknown("kafka has not acknowledged in time") from exc
        except (KafkaError, AnswerLost) as exc:
            if isinstance(exc, OUT_OF_STEP):
                self._replace(producer)
            raise OutcomeUnknown(f"kafka: {type(exc).__name__}") from exc
        PUBLISH_SECONDS.observe(time.monotonic() - started)

    async def publish_each(self, messages: Sequence[Message]) -> list[PublishError | None]:
        """Publish a group, and wait for all of it no longer than `publish` does for one record.

        For each message, in order: None where the broker has it, otherwise what `publish` would have raised.
        Raises PublisherUnavailable or EventTooLarge, nothing written.
        """
        if not self.available:
            raise PublisherUnavailable("kafka does not acknowledge")
        started, producer = time.monotonic(), self._producer
        acks: list[Ack] = []
        refusal: PublishError = PublisherUnavailable("kafka has no leader for the topic, or takes no more")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._ack_timeout_s):
                try:
                    await self._hand_over_in_turns(messages, acks)
                except (PublisherUnavailable, EventTooLarge) as exc:
                    refusal = exc
                if acks:
                    await asyncio.wait(set(acks))
        PUBLISH_SECONDS.observe(time.monotonic() - started)
        if not acks:
            raise refusal
        ends = {ack: self._judge(producer, ack) for ack in dict.fromkeys(acks)}
        await _reach_acknowledged(messages)
        return [ends[ack] for ack in acks] + [refusal] * (len(messages) - len(acks))

    async def _hand_over_in_turns(self, messages: Sequence[Message], acks: list[Ack]) -> None:
        """A thousand take as long as a hundred requests: those have their turn in between."""
        for start in range(0, len(messages), _TURN):
            await self._hand_over(messages[start : start + _TURN], acks)
            await asyncio.sleep(0)

    def _judge(self, producer: AIOKafkaProducer, ack: Ack) -> PublishError | None:
        if not ack.done():
            ack.add_done_callback(note_seen)
            return OutcomeUnknown("kafka has not acknowledged in time")
        error = ack.exception()
        if isinstance(error, OUT_OF_STEP):
            self._replace(producer)
        return OutcomeUnknown(f"kafka: {type(error).__name__}") if error else None

    async def publish_all(self, messages: Sequence[Message]) -> None:
        """Publish a group and wait until every record is acknowledged, however long Kafka is away.

        For workers: whoever must not go on before the broker has it. Raises PublishError where a record was
        refused for good; the others may have been written. Raises PublisherUnavailable where the group is to be
        published once more, some of it perhaps a second time.
        """
        producer, replaced = self._producer, self._replaced
        handed: list[Ack] = []
        await self._hand_over(messages, handed)
        acks = list(dict.fromkeys(handed))
        try:
            for ack in acks:
                if replaced and not ack.done():  # one that is replaced may never tell
                    await asyncio.wait([ack, replaced], return_when=asyncio.FIRST_COMPLETED)
                    if not ack.done():
                        raise PublisherUnavailable("kafka: the producer had to be replaced")
                await ack
        except OUT_OF_STEP as exc:
            self._replace(producer)
            raise PublisherUnavailable(f"kafka: {type(exc).__name__}") from exc
        except KafkaError as exc:
            raise PublishError(f"kafka: {type(exc).__name__}") from exc
        finally:
            for ack in acks:
                if not ack.done():
                    ack.add_done_callback(note_seen)
        await _reach_acknowledged(messages)


async def _reach_acknowledged(messages: Sequence[Message]) -> None:
    if has_failpoint(PUBLISHER_ACKNOWLEDGED):
        await reach_failpoint(PUBLISHER_ACKNOWLEDGED, [message.value for message in messages])
