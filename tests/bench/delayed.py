"""How late delayed mail leaves when very many fall due within a minute: from `send_at` to the record's time on Kafka.

The mail is on the topic, taken in by the scheduler, before the first falls due. Broker, scheduler and this process have
one clock.
"""

import asyncio
import time
from datetime import UTC, datetime
from functools import partial

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer

from tests.bench.figures import Figures, NotMeasured
from tests.bench.mails import Record, make_mail, publish_records
from tests.bench.senders import Share, take_share
from tests.bench.targets import take_percentile
from tests.bench.watching import Stopwatch, wait_count
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess

_INTAKE_RATE = 1500  # mails a second that are sure to be published and taken in
_PAUSE_S = 3.0  # between the last taken in and the first due
_PENDING = "SELECT count(*) FROM scheduler.delayed"
_RELEASED = "SELECT count(*) FROM scheduler.delayed WHERE state = 'released'"


async def release_in_time(servers: RealServers, mails: int, seconds: float, schedulers: int = 1) -> Figures:
    """So many mails fall due evenly over so many seconds."""
    with take_share(servers) as share:
        processes = [
            share.runner.start("services.scheduler", "worker", env={"MILENA_SLOT": str(slot)})
            for slot in range(schedulers)
        ]
        for process in processes:
            await process.wait_ready(60)
        first = time.time() + mails / _INTAKE_RATE + _PAUSE_S
        due: dict[str, float] = {}
        make = partial(_make_delayed, due, first, seconds / mails)
        await publish_records(share.stack.bootstrap_servers, share.topics.requested, mails, make)
        await _count(share, _PENDING, mails, processes)
        if time.time() > first:
            raise NotMeasured("the mails were not taken in before the first of them fell due")
        await asyncio.sleep(first - time.time())
        watch = Stopwatch(processes, 0)
        await asyncio.sleep(seconds)
        await _count(share, _RELEASED, mails, processes)
        figures = watch.read(mails)
        lags = await _read_lags(share, due)
    return {
        "lag_p50_ms": take_percentile(lags, 50) * 1e3,
        "lag_p99_ms": take_percentile(lags, 99) * 1e3,
        "lag_longest_ms": max(lags) * 1e3,
        "cpu_us": figures["cpu_us"],
    }


def _make_delayed(due: dict[str, float], first: float, step: float, number: int) -> Record:
    mail = make_mail(number)
    due[mail["id"]] = first + number * step
    mail["send_at"] = datetime.fromtimestamp(due[mail["id"]], UTC).isoformat()
    return mail["id"].encode(), orjson.dumps(mail)


async def _count(share: Share, query: str, mails: int, processes: list[ServiceProcess]) -> None:
    connection = await asyncpg.connect(share.stack.database_url)
    try:
        await wait_count(lambda: connection.fetchval(query), mails, "rows of delayed mail", processes)
    finally:
        await connection.close()


async def _read_lags(share: Share, due: dict[str, float]) -> list[float]:
    """Of each mail, by its first record from the scheduler. Raises NotMeasured where one has none."""
    consumer = AIOKafkaConsumer(
        share.topics.requested, bootstrap_servers=share.stack.bootstrap_servers, auto_offset_reset="earliest"
    )
    released: dict[str, float] = {}
    await consumer.start()
    try:
        while len(released) < len(due):
            fetched = await consumer.getmany(timeout_ms=5000, max_records=5000)
            if not fetched:
                raise NotMeasured(f"{len(due) - len(released)} mails were not given back")
            for records in fetched.values():
                for record in records:
                    if dict(record.headers).get("ce_source") == b"/milena/scheduler":
                        released.setdefault(record.key.decode(), record.timestamp / 1e3)
    finally:
        await consumer.stop()
    return [at - due[email_id] for email_id, at in released.items()]
