"""The facts about Faust that our code relies on (docs/faust.md), so that an upgrade that changes one fails here.

E1 … E18 are the numbers under which docs/faust.md describes the experiments.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from faust import streams
from faust.transport.consumer import Consumer as AbstractConsumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from tests.contract.faust_fixture import TOPIC, Rig, acknowledge, open_rig, quiet_faust, run_loop, settle

TP0 = TP(TOPIC, 0)


@pytest.fixture(autouse=True)
def _quiet_faust() -> Iterator[None]:
    with quiet_faust():
        yield


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path) as opened:
        yield opened


def test_the_three_versions_that_move_together_are_pinned() -> None:
    assert version("faust-streaming") == "0.15.3"
    assert version("aiokafka").startswith("0.14.")
    assert version("mode-streaming").startswith("0.7.")


# 1. When is an offset acknowledged?


async def test_e1_an_event_whose_agent_raised_is_acked_and_committed(rig: Rig) -> None:
    seen = []

    async def agent(stream: Any) -> None:
        async for event in stream.events():
            seen.append(event.message.offset)
            if event.message.offset == 1:
                raise RuntimeError("handler failed")

    await rig.start_agent(agent)
    rig.deliver(0, 1)
    await settle(lambda: rig.acks == 2)
    await rig.commit()

    assert seen == [0, 1]
    assert rig.broker.committed == {TP0: 2}


async def test_e7_an_event_whose_agent_was_cancelled_is_acked(rig: Rig) -> None:
    working = asyncio.Event()

    async def agent(stream: Any) -> None:
        async for _ in stream.events():
            working.set()
            await asyncio.Event().wait()

    actor = next(iter((await rig.start_agent(agent))._actors))
    rig.deliver(7)
    await working.wait()
    assert rig.acks == 0
    actor.actor_task.cancel()
    await settle(lambda: rig.acks == 1)
    await rig.commit()

    assert rig.broker.committed == {TP0: 8}


async def test_e8_with_noack_nothing_is_acked_but_by_hand(rig: Rig) -> None:
    taken = []

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            taken.append(event)
            if event.message.offset == 7:
                raise RuntimeError("handler failed")

    await rig.start_agent(agent)
    rig.deliver(6, 7)
    await settle(lambda: len(taken) == 2)
    await run_loop()
    assert rig.acks == 0

    assert acknowledge(taken[:1]) == [True]
    assert await rig.commit() == 7


async def test_e9_take_acks_events_that_were_never_delivered(rig: Rig) -> None:
    batches = []
    stream = rig.open_stream()
    rig.deliver(0, 1, 2, 3, 4)

    async def consume() -> None:
        async for batch in stream.take(3, within=10):
            batches.append(len(batch))
            raise RuntimeError("handler failed")

    with pytest.raises(RuntimeError):
        await consume()
    await settle(lambda: rig.acks == 5)

    assert batches == [3]
    assert await rig.commit() == 5
    await stream.stop()


# 2. Which offset is committed?


async def test_e2_without_a_committed_offset_a_lone_ack_commits_past_unfinished_work(rig: Rig) -> None:
    events = rig.take_over(0, 1, 2, 3)
    acknowledge(events[3:])

    assert await rig.commit() == 4


async def test_e3_one_unfinished_event_at_the_head_is_not_seen(rig: Rig) -> None:
    rig.set_committed(31)
    events = rig.take_over(31, 32)
    acknowledge(events[1:])

    assert await rig.commit() == 33


async def test_e3_two_unfinished_events_at_the_head_are_seen(rig: Rig) -> None:
    rig.set_committed(31)
    events = rig.take_over(31, 32, 33)
    acknowledge(events[2:])

    assert await rig.commit() is None


async def test_e4_a_hole_in_the_offsets_swallows_the_next_real_event(rig: Rig) -> None:
    rig.set_committed(31)
    events = rig.take_over(31, 40, 41)
    await rig.consumer._add_gap(TP0, 32, 40)  # as _drain_messages does at 40 after 31: 32 … 39 do not exist
    acknowledge([events[0], events[2]])

    assert await rig.commit() == 42


# 3. Rebalance


async def test_e5_a_revocation_waits_for_work_in_flight_and_commits_it(rig: Rig) -> None:
    rig.set_committed(13)
    events = rig.take_over(13)
    revoking = asyncio.create_task(rig.consumer.on_partitions_revoked({TP0}))
    await run_loop()
    assert not revoking.done()

    acknowledge(events)
    await asyncio.wait_for(revoking, 2)
    assert rig.broker.commits == [{TP0: 14}]


async def test_e5b_acks_since_the_last_commit_are_forgotten_at_a_revocation(rig: Rig) -> None:
    rig.set_committed(10)
    acknowledge(rig.take_over(10, 11, 12))
    await rig.consumer.on_partitions_revoked({TP0})

    assert rig.broker.commits == []


async def test_e5c_during_a_revocation_an_ack_out_of_order_commits_past_unfinished_work(rig: Rig) -> None:
    rig.set_committed(9)
    events = rig.take_over(9, 13)
    revoking = asyncio.create_task(rig.consumer.on_partitions_revoked({TP0}))
    await run_loop()
    acknowledge(events[1:])
    await settle(lambda: rig.broker.commits == [{TP0: 14}])
    assert not revoking.done()

    acknowledge(events[:1])
    await asyncio.wait_for(revoking, 2)


async def test_e6_the_compiled_stream_skips_an_event_of_an_old_generation_without_acking_it(rig: Rig) -> None:
    assert streams._CStreamIterator is not None, "Faust was installed without its compiled stream"
    seen = []

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            seen.append(event.message.offset)

    await rig.start_agent(agent)
    rig.deliver(5, generation=0)
    rig.deliver(6)
    await settle(lambda: seen == [6])

    assert rig.acks == 0
    assert [message.offset for message in rig.consumer.unacked] == [6]


async def test_e18_a_consumer_that_commits_before_the_revocation_keeps_the_acks(tmp_path: Path) -> None:
    class CommitsFirst(driver.Consumer):  # type: ignore[misc]
        async def on_partitions_revoked(self, revoked: set[TP]) -> None:
            await self.commit()
            await super().on_partitions_revoked(revoked)

    async with open_rig(tmp_path, CommitsFirst) as rig:
        assert type(rig.consumer) is CommitsFirst
        rig.set_committed(10)
        acknowledge(rig.take_over(10, 11, 12))
        await rig.consumer.on_partitions_revoked({TP0})

        assert rig.broker.commits == [{TP0: 13}]


# 4. Shutdown


async def test_e10_stopping_waits_for_work_in_flight_and_commits_it(rig: Rig) -> None:
    events = rig.take_over(0, 1)
    stopping = asyncio.create_task(rig.app._stop_consumer())
    await run_loop()
    assert not stopping.done()

    acknowledge(events)
    await asyncio.wait_for(stopping, 2)
    assert rig.broker.commits[-1] == {TP0: 2}


async def test_e15_stopping_waits_for_ever_for_a_noack_event_whose_agent_raised(rig: Rig) -> None:
    async def agent(stream: Any) -> None:
        async for _ in stream.noack().events():
            raise RuntimeError("handler failed")

    failed = next(iter((await rig.start_agent(agent))._actors))
    rig.deliver(7)
    await settle(lambda: failed._crash_reason is not None)
    stopping = asyncio.create_task(rig.app._stop_consumer())
    await asyncio.sleep(0.05)
    stopping.cancel()
    await asyncio.sleep(0.05)
    assert not stopping.done()

    failed._crash_reason.with_traceback(None)  # the traceback held the agent's frame, the frame held the event
    await asyncio.wait_for(stopping, 3)
    assert rig.broker.commits == []


async def test_e14_an_app_can_be_built_twice_and_a_noack_agent_be_driven_without_kafka(tmp_path: Path) -> None:
    seen = []

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            seen.append(event.value)

    for name in ("one", "two"):
        async with (
            open_rig(tmp_path / name) as rig,
            rig.app.agent(rig.topic, name=name)(agent).test_context() as tested,
        ):
            await tested.put(name.encode())

    assert seen == [b"one", b"two"]


# 5. The private names that shared/consuming overrides or uses


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (driver.AIOKafkaConsumerThread, "_create_worker_consumer", ["self", "transport"]),
        (driver.Consumer, "_new_consumer_thread", ["self"]),
        (AbstractConsumer, "_filter_tps_with_pending_acks", ["self", "topics"]),
        (AbstractConsumer, "_new_offset", ["self", "tp"]),
        (AbstractConsumer, "_add_gap", ["self", "tp", "offset_from", "offset_to"]),
        (AbstractConsumer, "getmany", ["self", "timeout"]),
        (AbstractConsumer, "wait_empty", ["self"]),
        (AbstractConsumer, "on_partitions_revoked", ["self", "revoked"]),
        (AbstractConsumer, "commit", ["self", "topics", "start_new_transaction"]),
        (AbstractConsumer, "commit_and_end_transactions", ["self"]),
    ],
)
def test_a_method_we_override_has_the_parameters_we_expect(owner: Any, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters
    if owner is AbstractConsumer:
        assert getattr(driver.Consumer, name) is getattr(AbstractConsumer, name), "the driver has its own now"


async def test_the_thread_reads_uncommitted_unless_its_consumer_is_told_otherwise(rig: Rig) -> None:
    thread = driver.AIOKafkaConsumerThread(rig.consumer, loop=rig.consumer.loop, beacon=rig.consumer.beacon)
    try:
        made = thread._create_worker_consumer(rig.app.transport)
        await made.stop()
    finally:
        thread.thread_loop.close()

    assert isinstance(made, AIOKafkaConsumer)
    assert made._isolation_level == "read_uncommitted"
    assert made._group_instance_id == rig.app.conf.consumer_group_instance_id


async def test_the_isolation_level_is_read_when_the_fetcher_is_made() -> None:
    # so that setting it between construction and start() takes effect
    assert "isolation_level=self._isolation_level" in inspect.getsource(AIOKafkaConsumer.start)


async def test_the_consumer_makes_its_thread_through_the_method_we_override(tmp_path: Path) -> None:
    made = []

    class OwnThread(driver.Consumer):  # type: ignore[misc]
        def _new_consumer_thread(self) -> Any:
            made.append(super()._new_consumer_thread())
            return made[-1]

    async with open_rig(tmp_path, OwnThread):
        assert isinstance(made[0], driver.AIOKafkaConsumerThread)


async def test_a_commit_asks_the_two_methods_we_override_and_no_others(tmp_path: Path) -> None:
    class Heads(driver.Consumer):  # type: ignore[misc]
        def _filter_tps_with_pending_acks(self, topics: Any = None) -> list[TP]:
            return [TP0]

        def _new_offset(self, tp: TP) -> int | None:
            return 17

    async with open_rig(tmp_path, Heads) as rig:
        assert await rig.commit() == 17
        assert rig.consumer._committed_offset[TP0] == 17
        assert await rig.commit() is None  # not again the same


async def test_a_commit_leaves_out_partitions_that_are_not_assigned_any_more(rig: Rig) -> None:
    acknowledge(rig.take_over(0))
    rig.assign()

    assert await rig.commit() is None


async def test_an_ack_is_kept_in_the_lists_we_clear(rig: Rig) -> None:
    event = rig.take_over(3)[0]
    assert set(rig.consumer._unacked_messages) == {event.message}
    acknowledge([event])

    assert rig.consumer._acked[TP0] == [3]
    assert rig.consumer._acked_index[TP0] == {3}
    assert not rig.consumer._unacked_messages


async def test_an_ack_below_the_committed_offset_stays_unacked_for_ever(rig: Rig) -> None:
    rig.set_committed(10)
    event = rig.take_over(9)[0]

    assert acknowledge([event]) == [False]
    assert rig.acks == 0
    assert rig.consumer._unacked_messages


async def test_records_are_fetched_through_getmany_with_float_seconds(rig: Rig) -> None:
    record = _record(offset=4, timestamp=1_700_000_000_001)
    rig.broker.fetched.append({TP0: [record]})
    fetched = [each async for each in rig.consumer.getmany(timeout=0.1)]

    assert [(tp, message.offset) for tp, message in fetched] == [(TP0, 4)]
    assert fetched[0][1].timestamp == 1_700_000_000.001
    assert fetched[0][1].generation_id == rig.app.consumer_generation_id


async def test_wait_empty_is_called_at_a_revocation_and_at_shutdown(tmp_path: Path) -> None:
    calls = []

    class Abandons(driver.Consumer):  # type: ignore[misc]
        async def wait_empty(self) -> None:
            calls.append(self.app.should_stop)

    async with open_rig(tmp_path, Abandons) as rig:
        await rig.consumer.on_partitions_revoked({TP0})
        rig.app._stopped.set()
        await rig.app._stop_consumer()

    assert calls == [False, True]


def _record(*, offset: int, timestamp: int) -> Any:
    from aiokafka.structs import ConsumerRecord

    return ConsumerRecord(TOPIC, 0, offset, timestamp, 1, None, b"{}", None, 0, 2, ())
