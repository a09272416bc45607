"""A publisher's Kafka transactions: what is aborted is never sent, what is committed is, and the gap hurts nobody."""

import asyncio
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from tests.chaos.judging import judge, reconcile
from tests.chaos.rig import Rig, make_mail
from tests.chaos.verdict import Verdict

_PARTITION = 3


async def abort_and_commit(
    rig: Rig, *, mails: int = 20, idle_s: float = 10.0, stalled_after_s: float = 3.0, reconciled: bool = True
) -> Verdict:
    """Abort a transaction and commit another in one partition, idle, then publish once more there."""
    sender = await rig.start_sender(0, MILENA_STALLED_AFTER=str(stalled_after_s))
    producer = AIOKafkaProducer(
        bootstrap_servers=rig.stack.bootstrap_servers, transactional_id=f"{rig.stack.topic_prefix}chaos"
    )
    await producer.start()
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


async def _send(rig: Rig, producer: AIOKafkaProducer, count: int) -> dict[str, Any]:
    mails = [make_mail(number) for number in range(count)]
    for mail in mails:
        value, key = orjson.dumps(mail), mail["id"].encode()
        await producer.send_and_wait(rig.stack.topics.requested, value, key=key, partition=_PARTITION)
    return {mail["id"]: tuple(mail["to"]) for mail in mails}
