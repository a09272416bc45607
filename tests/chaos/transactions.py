"""A publisher's Kafka transactions: what is aborted is never sent, what is committed is, and the gap hurts nobody."""

import asyncio
import sys
import time
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from deploy.local.settings import REPOSITORY
from tests.chaos.judging import judge, reconcile
from tests.chaos.rig import Rig, make_mail
from tests.chaos.verdict import Verdict

_PARTITION = 3


async def abort_and_commit(
    rig: Rig, *, mails: int = 20, idle_s: float = 10.0, stalled_after_s: float = 3.0, reconciled: bool = True
) -> Verdict:
    """Abort a transaction and commit another in one partition, idle, then publish once more there."""
    sender = await rig.start_sender(0, MILENA_STALLED_AFTER=str(stalled_after_s))
    producer = await _start_producer(rig)
    try:
        await producer.begin_transaction()
        await _send(rig, producer, mails)
        await producer.abort_transaction()
        async with producer.transaction():
            committed = await _send(rig, producer, mails)
        rig.accepted |= committed
        # A transaction that ends with its abort is the end of the partition: nothing but a marker lies behind it.
        await producer.begin_transaction()
        await _send(rig, producer, 1)
        await producer.abort_transaction()
        finished = await rig.wait_finished(30)
        await asyncio.sleep(idle_s)
        async with producer.transaction():
            rig.accepted |= await _send(rig, producer, 1)
    finally:
        await producer.stop()
    finished = await rig.wait_finished(30) and finished
    verdict = await judge(rig, f"aborted and committed Kafka transactions in one partition, then {idle_s:.0f} s idle")
    verdict.require(finished, "a committed mail was not sent within 30 s")
    verdict.require_no_double()
    verdict.require(sender.restarts == 0, f"{sender.restarts} restarts; exit codes {sender.exits}")
    if reconciled:
        await reconcile(rig, verdict)
    return verdict


async def die_in_a_transaction(
    rig: Rig, *, mails: int = 20, timeout_s: float = 12.0, stalled_after_s: float = 5.0, reconciled: bool = True
) -> Verdict:
    """A publisher is killed in the middle of a transaction, twice; others publish behind it in the same partition.

    Nothing behind an open transaction may be read. The first time the broker has to end it, after `timeout_s` (and up
    to 10 s more: it looks every 10 s); the second time a successor with the same transactional id does, at once. What
    the dead one had sent is nobody's mail.
    """
    sender = await rig.start_sender(0, MILENA_STALLED_AFTER=str(stalled_after_s))
    await _die(rig, mails, timeout_s)
    waited = await _time_mails(rig, mails, timeout_s + 30)
    await _die(rig, mails, timeout_s)
    began = time.monotonic()
    producer = await _start_producer(rig)
    try:
        async with producer.transaction():
            rig.accepted |= await _send(rig, producer, mails)
        finished = await rig.wait_finished(30)
    finally:
        await producer.stop()
    took = time.monotonic() - began
    verdict = await judge(rig, "a publisher is killed in the middle of a Kafka transaction, twice")
    verdict.kills = 2
    verdict.notes.append(f"behind it mails were sent after {waited:.1f} s, those of its successor after {took:.1f} s")
    verdict.require(finished, "a committed mail was not sent within 30 s")
    verdict.require(took < timeout_s, "the successor had to wait for the broker")
    verdict.require_no_double()
    verdict.require(not sender.exits, f"the sender ended by itself; exit codes {sender.exits}")
    if reconciled:
        await reconcile(rig, verdict)
    return verdict


async def _die(rig: Rig, mails: int, timeout_s: float) -> None:
    """Send into a transaction and be killed before its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos.dying_publisher"),
        *(rig.stack.bootstrap_servers, rig.stack.topics.requested, str(_PARTITION)),
        *(_name_transactions(rig), str(int(timeout_s * 1000))),
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"\n".join(orjson.dumps(make_mail(number)) for number in range(mails)))
    process.stdin.close()
    try:
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"sent\n"
    finally:
        process.kill()
        await process.wait()


async def _time_mails(rig: Rig, mails: int, patience_s: float) -> float:
    """How long mails take that somebody else publishes behind an open transaction."""
    began = time.monotonic()
    producer = AIOKafkaProducer(bootstrap_servers=rig.stack.bootstrap_servers)
    await producer.start()
    try:
        rig.accepted |= await _send(rig, producer, mails)
    finally:
        await producer.stop()
    assert await rig.wait_finished(patience_s), "mails behind a dead publisher's transaction were not sent"
    return time.monotonic() - began


async def _start_producer(rig: Rig) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(bootstrap_servers=rig.stack.bootstrap_servers, transactional_id=_name_transactions(rig))
    await producer.start()
    return producer


def _name_transactions(rig: Rig) -> str:
    return f"{rig.stack.topic_prefix}chaos"


async def _send(rig: Rig, producer: AIOKafkaProducer, count: int) -> dict[str, Any]:
    mails = [make_mail(number) for number in range(count)]
    for mail in mails:
        value, key = orjson.dumps(mail), mail["id"].encode()
        await producer.send_and_wait(rig.stack.topics.requested, value, key=key, partition=_PARTITION)
    return {mail["id"]: tuple(mail["to"]) for mail in mails}
