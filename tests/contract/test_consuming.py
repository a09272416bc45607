"""What shared/consuming makes of Faust: only the lane's head is committed, and nothing abandoned ever is."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from faust.events import Event
from faust.types import TP

from shared.consuming import DRAIN_S, REVOCATION_GRACE_S, ConsumerOptions, create_faust_app
from shared.consuming import consumer as consuming
from shared.kafka_access import KafkaAccess
from shared.lane import Lane, Ticket
from tests.contract.faust_fixture import GENERATION, TOPIC, Rig, quiet_faust, run_loop, settle

TP0, TP1 = TP(TOPIC, 0), TP(TOPIC, 1)
GRACE_S = 0.1  # in place of the 2 s of a revocation and the 30 s of a drain


class LaneRig(Rig):
    """A rig whose agent feeds a lane; tickets that have begun lie in `begun`, by offset."""

    def __init__(self, datadir: Path, limit: int) -> None:
        self.begun: dict[int, Ticket[Any]] = {}
        self.acknowledged: list[int] = []
        self.lane: Lane[Any] = Lane(self._begin, self._acknowledge, limit=limit)
        options = ConsumerOptions(KafkaAccess("127.0.0.1:1"), "sender", 3, TOPIC, 1 << 20, datadir, drain_s=GRACE_S)
        super().__init__(create_faust_app(options, self.lane))

    def _begin(self, ticket: Ticket[Any]) -> None:
        self.begun[ticket.offset] = ticket

    def message(
        self, offset: int, *, partition: int = 0, value: bytes = b"{}", generation: int = GENERATION, more: int = 0
    ) -> Any:
        """A chunk of one record, and of `more` behind it."""
        records = [_record(each, value, partition) for each in range(offset, offset + more + 1)]
        return consuming.Chunk({TP(TOPIC, partition): records}, generation)

    def deliver_chunk(self, first: int, last: int) -> None:
        self._stream.channel.queue.put_nowait(self.event(first, more=last - first))

    def _acknowledge(self, received: Any) -> None:
        self.acknowledged.append(received.record.offset)
        received.acknowledge()

    async def take(self, *offsets: int) -> None:
        """Deliver events and wait until their work has begun."""
        self.deliver(*offsets)
        await settle(lambda: set(offsets) <= set(self.begun))

    def finish(self, *offsets: int) -> None:
        for offset in offsets:
            self.lane.finish(self.begun[offset])


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(consuming, "REVOCATION_GRACE_S", GRACE_S)
    with quiet_faust():
        yield


async def _open(datadir: Path, limit: int = 512) -> AsyncIterator[LaneRig]:
    rig = LaneRig(datadir, limit)
    await rig.run_agent(next(iter(rig.app.agents.values())))
    yield rig
    await rig.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[LaneRig]:
    async for opened in _open(tmp_path):
        yield opened


@pytest.fixture
async def narrow_rig(tmp_path: Path) -> AsyncIterator[LaneRig]:
    """A lane with room for one."""
    async for opened in _open(tmp_path, limit=1):
        yield opened


def test_the_graces_are_two_and_thirty_seconds() -> None:
    assert REVOCATION_GRACE_S == 2.0
    assert DRAIN_S == 30.0
    assert ConsumerOptions(KafkaAccess(""), "sender", 0, TOPIC, 1, Path()).drain_s == DRAIN_S


# What is committed


async def test_the_head_is_committed_whatever_order_work_ends_in(rig: LaneRig) -> None:
    await rig.take(0, 1, 2, 3)
    rig.finish(3, 2)
    assert await rig.commit() is None

    rig.finish(0)
    assert await rig.commit() == 1

    rig.finish(1)
    assert await rig.commit() == 4
    assert rig.acknowledged == [0, 1, 2, 3]


async def test_the_head_is_committed_past_a_hole_but_not_past_the_event_behind_it(rig: LaneRig) -> None:
    rig.set_committed(31)
    await rig.take(31, 40, 41)
    await rig.consumer._add_gap(TP0, 32, 40)
    rig.finish(31, 41)
    assert await rig.commit() == 32

    rig.finish(40)
    assert await rig.commit() == 42


async def test_a_fresh_partition_with_missing_offsets_is_committed(rig: LaneRig) -> None:
    await rig.take(0, 3, 6)
    rig.finish(0)
    assert await rig.commit() == 1
    rig.finish(3, 6)
    assert await rig.commit() == 7


async def test_one_unfinished_event_at_the_head_holds_the_commit_back(rig: LaneRig) -> None:
    rig.set_committed(31)
    await rig.take(31, 32)
    rig.finish(32)

    assert await rig.commit() is None


async def test_fausts_own_lists_do_not_grow(rig: LaneRig) -> None:
    await rig.take(*range(20))
    rig.finish(*range(20))
    await rig.commit()
    await rig.consumer._add_gap(TP0, 25, 30)

    assert not rig.consumer._acked[TP0]
    assert not rig.consumer._acked_index[TP0]
    assert not rig.consumer._gap.get(TP0)
    assert not rig.consumer._unacked_messages


# Chunks: records of one poll that travel through Faust as one message


async def test_a_chunk_is_committed_record_by_record_and_acknowledged_with_its_last(rig: LaneRig) -> None:
    rig.deliver_chunk(0, 3)
    await settle(lambda: set(rig.begun) == {0, 1, 2, 3})
    rig.finish(1, 3, 0)
    assert await rig.commit() == 2
    assert rig.acks == 0

    rig.finish(2)
    assert rig.acks == 1
    assert await rig.commit() == 4
    assert not rig.consumer._unacked_messages


async def test_the_rest_of_a_chunk_is_dropped_when_its_assignment_ends(narrow_rig: LaneRig) -> None:
    narrow_rig.deliver_chunk(0, 3)
    await settle(lambda: set(narrow_rig.begun) == {0})
    await narrow_rig.consumer.on_partitions_revoked({TP0})
    await run_loop()

    assert set(narrow_rig.begun) == {0}
    assert not narrow_rig.lane.busy


async def test_a_poll_gives_one_chunk_without_what_was_read_before(rig: LaneRig) -> None:
    rig.assign(0, 1)
    rig.consumer._read_offset[TP0] = 5
    first, second = [_record(offset, b"", 0) for offset in (3, 5, 9)], [_record(offset, b"", 1) for offset in (0, 1)]
    rig.broker.fetched.append({TP0: first, TP1: second})

    [chunk] = [chunk async for _, chunk in rig.consumer.getmany(timeout=0.1)]
    assert {tp: [record.offset for record in found] for tp, found in chunk.found.items()} == {TP0: [5, 9], TP1: [0, 1]}
    assert (chunk.tp, chunk.offset) == (TP0, 9)
    assert (rig.consumer._read_offset[TP0], rig.consumer._read_offset[TP1]) == (9, 1)


async def test_what_a_poll_brought_of_a_partition_that_was_paused_meanwhile_is_not_lost(rig: LaneRig) -> None:
    rig.assign(0, 1)
    rig.broker.fetched.append({TP0: [_record(4, b"", 0)], TP1: [_record(8, b"", 1)]})
    fetch = rig.broker.getmany

    async def pause_and_fetch(*args: Any, **options: Any) -> Any:
        consuming.set_paused(rig.app, TP0, True)
        return await fetch(*args, **options)

    rig.broker.getmany = pause_and_fetch  # type: ignore[method-assign]
    [chunk] = [chunk async for _, chunk in rig.consumer.getmany(timeout=0.1)]
    assert set(chunk.found) == {TP0, TP1}


async def test_a_chunk_of_several_partitions_is_acknowledged_with_the_last_of_them(rig: LaneRig) -> None:
    rig.assign(0, 1)
    chunk = consuming.Chunk({TP0: [_record(4, b"", 0), _record(5, b"", 0)], TP1: [_record(8, b"", 1)]}, GENERATION)
    chunk.incref(1)
    rig._stream.channel.queue.put_nowait(Event(rig.app, None, None, [], chunk))
    await settle(lambda: set(rig.begun) == {4, 5, 8})
    rig.finish(8, 5)
    await rig.consumer.commit()
    assert rig.broker.committed == {TP1: 9}
    assert rig.acks == 0

    rig.finish(4)
    assert rig.acks == 1
    assert await rig.commit() == 6
    assert not rig.consumer._unacked_messages


async def test_an_assignment_that_ends_while_a_chunk_is_handed_on_leaves_the_read_offsets(rig: LaneRig) -> None:
    rig.assign(0, 1)
    rig.broker.fetched.append({TP0: [_record(0, b"", 0)], TP1: [_record(3, b"", 1)]})
    async for _ in rig.consumer.getmany(timeout=0.1):
        rig.app.consumer_generation_id += 1
    assert rig.consumer._read_offset[TP1] != 3, "its successor reads from what is committed"


async def test_a_poll_of_an_assignment_that_has_ended_gives_nothing(rig: LaneRig) -> None:
    rig.broker.fetched.append({TP0: [_record(0, b"")]})
    rig.consumer.stop_flow()
    rig.consumer.can_resume_flow.set()  # it ended between the poll and its answer

    assert await _fetch(rig) == []
    assert rig.lane.buffered_bytes == 0


async def test_what_came_while_the_flow_stood_is_fetched_again_of_fresh_partitions_too(rig: LaneRig) -> None:
    rig.assign(0, 1)
    rig.broker.committed = {TP0: 7}
    rig.broker.fetched.append({TP0: [_record(7, b"", 0)], TP(TOPIC, 1): [_record(0, b"", 1), _record(1, b"", 1)]})
    rig.consumer.stop_flow()
    rig.consumer.can_resume_flow.set()

    assert await _fetch(rig) == []
    assert rig.broker.sought == {TP(TOPIC, 1): 0}, "nothing is committed there, so nobody else has moved it back"
    assert rig.consumer._read_offset[TP0] == 7


# Revocation and shutdown


async def test_a_revocation_commits_at_once_what_is_done(rig: LaneRig) -> None:
    await rig.take(10, 11, 12, 13)
    rig.finish(10, 11, 12)
    revoking = asyncio.create_task(rig.consumer.on_partitions_revoked({TP0}))
    await run_loop()

    assert rig.broker.commits == [{TP0: 13}]
    assert not revoking.done()
    await revoking


async def test_a_revocation_commits_what_ended_while_another_commit_was_under_way(rig: LaneRig) -> None:
    await rig.take(0, 1)
    rig.finish(0)
    rig.broker.answering = asyncio.Event()
    committing = asyncio.create_task(rig.consumer.commit())
    await run_loop()
    rig.finish(1)
    revoking = asyncio.create_task(rig.consumer.on_partitions_revoked({TP0}))
    await run_loop()
    rig.broker.answering.set()
    await asyncio.gather(committing, revoking)

    assert rig.broker.commits == [{TP0: 1}, {TP0: 2}]


async def test_a_revocation_waits_for_work_that_ends_in_its_grace(rig: LaneRig) -> None:
    await rig.take(0)
    revoking = asyncio.create_task(rig.consumer.on_partitions_revoked({TP0}))
    await run_loop()
    rig.finish(0)
    await revoking

    assert rig.broker.commits == [{TP0: 1}]
    assert rig.acknowledged == [0]


async def test_a_revocation_abandons_what_does_not_end_and_never_acknowledges_it(rig: LaneRig) -> None:
    await rig.take(0, 1, 2)
    rig.finish(0)
    rig.finish(2)  # done, but behind 1
    started = time.monotonic()
    await rig.consumer.on_partitions_revoked({TP0})

    assert GRACE_S <= time.monotonic() - started < GRACE_S + 0.5
    assert not rig.lane.busy
    assert not rig.consumer._unacked_messages
    rig.finish(1)
    await rig.commit()
    assert rig.broker.committed == {TP0: 1}
    assert rig.acknowledged == [0]


async def test_a_shutdown_waits_for_its_drain_and_then_abandons(rig: LaneRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consuming, "REVOCATION_GRACE_S", 60.0)
    await rig.take(0, 1)
    rig.finish(0)
    rig.app._stopped.set()
    started = time.monotonic()
    await asyncio.wait_for(rig.app._stop_consumer(), 2)

    assert time.monotonic() - started >= GRACE_S
    assert rig.broker.committed == {TP0: 1}
    rig.finish(1)
    assert rig.acknowledged == [0]


async def test_an_idle_lane_is_revoked_without_waiting(rig: LaneRig) -> None:
    started = time.monotonic()
    await rig.consumer.on_partitions_revoked({TP0})

    assert time.monotonic() - started < GRACE_S


async def test_after_a_revocation_the_same_offsets_are_committed_by_their_second_delivery(rig: LaneRig) -> None:
    await rig.take(0, 1)
    first = dict(rig.begun)
    await rig.consumer.on_partitions_revoked({TP0})
    rig.begun.clear()
    rig.consumer.resume_flow()
    rig.app.flow_control.resume()
    await rig.take(0, 1)

    rig.lane.finish(first[0])
    assert await rig.commit() is None
    rig.finish(0)
    assert await rig.commit() == 1


async def test_an_event_that_waited_for_room_while_its_assignment_ended_is_dropped(narrow_rig: LaneRig) -> None:
    await narrow_rig.take(0)
    narrow_rig.deliver(1)
    await run_loop()
    await narrow_rig.consumer.on_partitions_revoked({TP0})
    await run_loop()

    assert set(narrow_rig.begun) == {0}
    assert not narrow_rig.lane.busy


async def test_an_event_of_an_old_generation_never_begins(rig: LaneRig) -> None:
    rig.deliver(5, generation=0)
    await rig.take(6)

    assert set(rig.begun) == {6}


# Fetching


async def test_nothing_is_fetched_while_too_many_bytes_are_held(rig: LaneRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consuming, "_BUFFERED_BYTES", 10)
    monkeypatch.setattr(consuming, "_RECORD_BYTES", 0)
    await rig.take(0)
    rig.broker.fetched.append({TP0: [_record(1, b"12345")]})
    rig.lane.buffered_bytes = 11 + len(b"{}")
    fetching = asyncio.create_task(_fetch(rig))
    await asyncio.sleep(0.03)
    assert rig.broker.fetches == 0

    rig.lane.buffered_bytes -= 1
    rig.finish(0)  # frees its 2 bytes: 10 are left
    assert await asyncio.wait_for(fetching, 1) == [1]
    assert rig.lane.buffered_bytes == 10 + len(b"12345")


async def test_fetching_goes_on_to_stop_when_the_flow_stops(rig: LaneRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consuming, "_BUFFERED_BYTES", 10)
    await rig.take(0)
    rig.lane.buffered_bytes = 11
    fetching = asyncio.create_task(_fetch(rig))
    await asyncio.sleep(0.02)
    rig.consumer._stopped.set()

    assert await asyncio.wait_for(fetching, 1) == []


async def test_the_consumer_reads_committed_records_as_a_static_member_that_may_pause(tmp_path: Path) -> None:
    rig = LaneRig(tmp_path, 1)
    thread = rig.consumer._new_consumer_thread()
    made = thread._create_worker_consumer(rig.app.transport)
    await made.stop()
    thread.thread_loop.close()

    assert made._isolation_level == "read_committed"
    assert made._group_id == "sender"
    assert made._group_instance_id == "sender-3"
    assert made._auto_offset_reset == "earliest"
    assert made._max_partition_fetch_bytes > 1 << 20
    assert made._max_poll_interval_ms > 24 * 3600 * 1000
    assert made._enable_auto_commit is False
    assert rig.consumer.in_transaction is False  # else Faust would commit through a transaction


async def _fetch(rig: LaneRig) -> list[int]:
    return [message.offset async for _, message in rig.consumer.getmany(timeout=0.1)]


def _record(offset: int, value: bytes, partition: int = 0) -> Any:
    return ConsumerRecord(TOPIC, partition, offset, 1_700_000_000_000, 1, None, value, None, 0, len(value), ())
