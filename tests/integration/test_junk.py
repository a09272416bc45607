"""Junk of every kind in every partition, between good mails: one answer each, nobody hurt (R4, R5, R8)."""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from shared.topics import TopicPlan
from tests.support.batches import Raw, build_batch, publish_batches
from tests.support.events import publish_json
from tests.support.junk import MAIL, Headers, Junk, collect_junk, collect_odd_mails, write
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.smtp import Script, SmtpServer, run_smtp
from tests.support.stack import Stack

PARTITIONS = range(12)
LIMIT_MB = 150  # what junk may add to a process's peak; each of the bombs alone unpacks to 200 MB or 300 MB


class Topic:
    """Publishes to single partitions, in order, and knows what lies where."""

    def __init__(self, stack: Stack) -> None:
        self.name = stack.topics.requested
        self.good: list[str] = []  # recipients, one of each good mail
        self.junk: dict[tuple[int, int], Junk] = {}
        self.skipped = 0
        self._stack = stack
        self._odd = cycle(collect_odd_mails())
        self._bombs = {codec: _build_bomb(codec, size) for codec, size in (("zstd", 300), ("lz4", 200), ("gzip", 200))}

    def create_producer(self, codec: str | None) -> AIOKafkaProducer:
        """Writes batches as large as the topic takes."""
        return AIOKafkaProducer(
            bootstrap_servers=self._stack.bootstrap_servers,
            max_request_size=1_100_000,
            max_batch_size=1_000_000,
            compression_type=codec,
            linger_ms=5,
        )

    async def put_junk(self, producer: AIOKafkaProducer, partition: int, junk: list[Junk]) -> None:
        """All of it, an odd mail after every few."""
        acks: list[tuple[Junk | None, Any]] = []
        for number, each in enumerate(junk):
            if number % 6 == 0:
                acks.append((None, await self._send(producer, partition, *next(self._odd))))
            acks.append((each, await self._send(producer, partition, each.value, each.headers)))
        for sent, ack in acks:
            offset = (await ack).offset
            if sent:
                self._note(partition, offset, sent)

    async def _send(self, producer: AIOKafkaProducer, partition: int, value: bytes | None, headers: Headers) -> Any:
        if value and b"@odd@" in value:
            value = value.replace(b"@odd@", self.expect().encode())
        return await producer.send(self.name, value, key=b"k", partition=partition, headers=list(headers))

    async def put_batches(self, partition: int) -> None:
        """Bombs, alone and among good mails, and what no client of ours would write."""
        bombs = ["zstd", "lz4", *(["gzip"] if partition < 2 else [])]
        placed = [(Junk(f"{codec} bomb", None), self._bombs[codec]) for codec in bombs]
        large = Raw(b"", zeros=6_000_000)
        batches = [batch for _, batch in placed]
        batches.append(build_batch([Raw(self._write()), large, Raw(self._write())], "zstd", timestamp=_now()))
        latin = [(b"Gr\xfc\xdfe", b"\xff"), (b"traceparent", None)]
        batches.append(build_batch([Raw(self._write()), Raw(self._write(), headers=latin)], timestamp=_now()))
        offsets = await publish_batches(
            self._stack.bootstrap_servers, self.name, *((partition, batch) for batch in batches)
        )
        for (junk, _), offset in zip(placed, offsets, strict=False):
            self._note(partition, offset, junk)
        self._note(partition, offsets[len(placed)] + 1, Junk("too large among others", None))

    async def put_times(self, partition: int) -> None:
        """Good mails and junk under timestamps that no calendar holds."""
        times = [2**62, 253_402_300_800_000]
        batches = [build_batch([Raw(self._write()), Raw(b"junk")], timestamp=each) for each in times]
        batches.append(build_batch([Raw(b"junk")], timestamp=-1))
        batches.append(build_batch([Raw(write({"send_at": "soon"}))], timestamp=2**62))
        offsets = await publish_batches(self._stack.bootstrap_servers, self.name, *((partition, b) for b in batches))
        for offset in (offsets[0] + 1, offsets[1] + 1, offsets[2]):
            self._note(partition, offset, Junk("odd time", b"junk"))
        self._note(partition, offsets[3], Junk("odd time", b"", answered_by="/milena/scheduler"))

    def _note(self, partition: int, offset: int, junk: Junk) -> None:
        if junk.answered_by:
            self.junk[partition, offset] = junk
        else:
            self.skipped += 1

    def expect(self) -> str:
        """The recipient of one more good mail."""
        self.good.append(f"good{len(self.good)}@example.org")
        return self.good[-1]

    def _write(self) -> bytes:
        return write({"to": [self.expect()]})


def _now() -> int:
    return int(time.time() * 1000)


def _build_bomb(codec: str, megabytes: int) -> bytes:
    batch = build_batch([Raw(b'{"text": "', zeros=megabytes * 1_000_000)], codec, timestamp=_now())
    assert len(batch) < 1_100_000
    return batch


async def test_junk_of_every_kind_is_answered_once_and_hurts_nobody(services: ServiceRunner, stack: Stack) -> None:
    topic = Topic(stack)
    async with run_smtp(Script(_answer)) as relay:
        processes = await _start(services, stack, relay)
        lives = await _settle_lives(stack, relay)
        before, peaks = await _dump(stack, lives), {each.name: _peak_mb(each) for each in processes}

        await _fill(topic, lives)
        await _keep_publishers_times(stack)
        await asyncio.gather(*(topic.put_times(partition) for partition in PARTITIONS))
        await publish_json(stack, MAIL | {"id": lives["sent"], "subject": "other content"}, partition=5)
        await _spoil_results(stack)
        await publish_json(stack, *(MAIL | {"to": [topic.expect()]} for _ in PARTITIONS))

        answers = await _read_answers(stack, topic, relay)
        _check_answers(topic, answers)
        _check_relay(topic, relay)
        await _wait_until(lambda: _is_read_up(stack), "all consumers have read everything")
        assert await _dump(stack, lives) == before
        for process in processes:
            assert process.returncode is None, process.read_log()
            assert "giving up" not in process.read_log()
            assert _peak_mb(process) - peaks[process.name] < LIMIT_MB, process.name
        for process in processes[:3]:
            assert await _count_skipped(process) >= topic.skipped, process.name


def _answer(step: str, argument: str) -> str | None:
    if step == "rcpt" and argument.startswith("deferred"):
        return "451 4.3.0 later"
    return None


async def _start(services: ServiceRunner, stack: Stack, relay: SmtpServer) -> list[ServiceProcess]:
    env = {"MILENA_SMTP_PORT": str(relay.port), "MILENA_RETRY_DELAYS": "3600"}
    names = ("sender", "scheduler", "gateway", "callback")
    processes = [services.start(f"services.{name}", "worker", env=env) for name in names]
    await asyncio.gather(*(each.wait_ready(60) for each in processes))
    return processes


async def _settle_lives(stack: Stack, relay: SmtpServer) -> dict[str, str]:
    """A mail in each state that junk might disturb."""
    lives = {state: str(uuid4()) for state in ("sent", "deferred", "scheduled")}
    await publish_json(
        stack,
        MAIL | {"id": lives["sent"], "to": ["sent@example.org"], "callback": "http://127.0.0.1:9/"},
        MAIL | {"id": lives["deferred"], "to": ["deferred@example.org"]},
        MAIL | {"id": lives["scheduled"], "send_at": "2999-01-01T00:00:00Z"},
    )

    async def settled() -> bool:
        rows = await _fetch(stack, "SELECT status FROM gateway.emails")
        held = await _fetch(stack, "SELECT 1 FROM scheduler.delayed")
        return sorted(row["status"] for row in rows) == ["deferred", "scheduled", "sent"] and len(held) == 1

    await _wait_until(settled, "the live mails are settled")
    return lives


async def _fill(topic: Topic, lives: dict[str, str]) -> None:
    """Junk and bombs into all partitions, plain into one half and compressed into the other."""
    async with topic.create_producer(None) as plain, topic.create_producer("lz4") as packing:
        await asyncio.gather(
            *(_fill_partition(topic, packing if each % 2 else plain, each, lives) for each in PARTITIONS)
        )


async def _fill_partition(topic: Topic, producer: AIOKafkaProducer, partition: int, lives: dict[str, str]) -> None:
    junk = collect_junk(list(lives.values())[partition % len(lives)])
    middle = len(junk) // 2
    await topic.put_junk(producer, partition, junk[:middle])
    await topic.put_batches(partition)
    await topic.put_junk(producer, partition, junk[middle:])


async def _keep_publishers_times(stack: Stack) -> None:
    """From now on the topic keeps the timestamps of its publishers, whatever they are."""
    most = str(2**63 - 1)
    config = TopicPlan().config() | {
        "message.timestamp.type": "CreateTime",
        "message.timestamp.after.max.ms": most,
        "message.timestamp.before.max.ms": most,
    }
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, stack.topics.requested, config)])
    finally:
        await admin.close()


async def _spoil_results(stack: Stack) -> None:
    """Results are our own services' alone; still nothing that lies there may stop a reader."""
    sent = {"id": str(uuid4()), "attempt": 1, "recipients": ["a@x.org"], "message_id": "<m>", "relay": "r"}
    sent |= {
        "response": "250",
        "sent_at": "2026-01-01T00:00:00Z",
        "outstanding": 0,
        "callback": "http://127.0.0.1:9/\0",
    }
    values = [b"junk", None, b"[]", json.dumps(sent).encode(), json.dumps(sent | {"attempt": 2**40}).encode()]
    values += [
        json.dumps(sent | {"account": "\0", "metadata": {"\0": "\0"}, "sent_at": "0001-01-01T00:00:00Z"}).encode()
    ]
    async with AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers) as producer:
        for value in values:
            for headers in ([], [("ce_type", b"email.sent"), ("ce_time", b"9999-12-31T23:59:59-14:00")]):
                await producer.send_and_wait(stack.topics.sent, value, key=b"k", partition=1, headers=headers)
        await producer.send_and_wait(stack.topics.failed, b"{}", headers=[("ce_type", b"what.else")])


async def _read_answers(stack: Stack, topic: Topic, relay: SmtpServer) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Every invalid_request there is, once as many are there as there is junk and the relay has the good mails."""
    found: list[tuple[dict[str, str], dict[str, Any]]] = []
    consumer = AIOKafkaConsumer(
        stack.topics.failed, bootstrap_servers=stack.bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        deadline, settle = time.monotonic() + 60, False
        while time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    data = json.loads(record.value)
                    if data.get("reason") == "invalid_request":
                        found.append(({name: value.decode() for name, value in record.headers}, data))
            if not settle and len(found) >= len(topic.junk) and len(relay.taken) > len(topic.good):
                deadline, settle = time.monotonic() + 1, True  # one more, if there is one too many
    finally:
        await consumer.stop()
    return found


def _check_answers(topic: Topic, answers: list[tuple[dict[str, str], dict[str, Any]]]) -> None:
    by_place = defaultdict(list)
    for headers, data in answers:
        by_place[data["source"]["partition"], data["source"]["offset"]].append((headers, data))
    unanswered = Counter(topic.junk[place].name for place in topic.junk.keys() - by_place.keys())
    assert not unanswered
    assert not by_place.keys() - topic.junk.keys(), "good mail was refused"
    assert len({headers["ce_id"] for headers, _ in answers}) == len(answers) == len(topic.junk)
    for place, ((headers, data),) in by_place.items():
        junk = topic.junk[place]
        assert headers["ce_source"] == junk.answered_by, junk.name
        assert data["errors"], junk.name
        assert data["final"] is True
        claims_id = junk.value is not None and b'"id":' in junk.value
        assert ("id" in data) <= (not claims_id), junk.name
    bombs = [data for _, data in answers if "unpacks to" in str(data["errors"])]
    assert len(bombs) == 3 * len(PARTITIONS) + 2


def _check_relay(topic: Topic, relay: SmtpServer) -> None:
    taken = Counter(recipient for each in relay.taken for recipient in each.recipients)
    assert taken == Counter([*topic.good, "sent@example.org"])


async def _dump(stack: Stack, lives: dict[str, str]) -> dict[str, Any]:
    """All that is stored of the live mails, but what other content under one id rightly adds to a read model's row."""
    queries = {
        "ledger": "SELECT * FROM sender.ledger WHERE id = ANY($1::uuid[])",
        "due": "SELECT id, kind, due_at, event, announced FROM sender.due WHERE id = ANY($1::uuid[])",
        "delayed": "SELECT * FROM scheduler.delayed WHERE id = ANY($1::uuid[])",
        "emails": "SELECT * FROM gateway.emails WHERE id = ANY($1::uuid[])",
        "cancellations": "SELECT id FROM sender.cancellation UNION SELECT id FROM scheduler.cancellation",
        "deliveries": "SELECT id, body FROM callback.delivery",
    }
    dump = {}
    for name, query in queries.items():
        found = [dict(row) for row in await _fetch(stack, query, *([list(lives.values())] if "$1" in query else []))]
        for row in found:
            for column in ("version", "rivals", "updated_at") if name == "emails" else ():
                del row[column]
        dump[name] = sorted(found, key=lambda row: str(row["id"]))
    return dump


async def _is_read_up(stack: Stack) -> bool:
    """Whether every consumer group has committed what lies on email.requested."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    consumer = AIOKafkaConsumer(stack.topics.requested, bootstrap_servers=stack.bootstrap_servers)
    await admin.start()
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        for service in ("sender", "scheduler", "gateway"):
            group = await admin.list_consumer_group_offsets(f"{stack.topic_prefix}milena-{service}")
            if any(end and (tp not in group or group[tp].offset < end) for tp, end in ends.items()):
                return False
        return True
    finally:
        await consumer.stop()
        await admin.close()


async def _count_skipped(process: ServiceProcess) -> float:
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"{process.url}/metrics")).text
    lines = [line for line in metrics.splitlines() if line.startswith('milena_events_skipped_total{why="type"}')]
    return float(lines[0].split()[1]) if lines else 0


def _peak_mb(process: ServiceProcess) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) // 1000


async def _wait_until(holds: Callable[[], Awaitable[bool]], what: str, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not await holds():
        assert time.monotonic() < deadline, f"not in time: {what}"
        await asyncio.sleep(0.1)


async def _fetch(stack: Stack, query: str, *args: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(stack.database_url)
    try:
        return list(await connection.fetch(query, *args))
    finally:
        await connection.close()
