import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.lane import Lane, Ticket


class Recorder:
    """A lane of strings, and what it began and acknowledged."""

    def __init__(self, **options: Any) -> None:
        self.begun: list[Ticket[str]] = []
        self.acknowledged: list[str] = []
        self.lane: Lane[str] = Lane(self.begun.append, self.acknowledged.append, **options)

    async def submit(self, *offsets: int, partition: int = 0, size: int = 1) -> None:
        for offset in offsets:
            await self.lane.submit(f"{partition}/{offset}", partition, offset, size)

    def ticket(self, offset: int, partition: int = 0) -> Ticket[str]:
        return next(each for each in self.begun if (each.partition, each.offset) == (partition, offset))

    def finish(self, *offsets: int, partition: int = 0) -> None:
        for offset in offsets:
            self.lane.finish(self.ticket(offset, partition))


async def test_work_begins_as_it_is_submitted() -> None:
    recorder = Recorder()
    await recorder.submit(0, 1)

    assert [ticket.event for ticket in recorder.begun] == ["0/0", "0/1"]
    assert recorder.lane.busy
    assert recorder.acknowledged == []
    assert recorder.lane.heads == {}


async def test_events_are_acknowledged_in_order_from_the_head() -> None:
    recorder = Recorder()
    await recorder.submit(5, 6, 9)
    recorder.finish(9, 6)
    assert recorder.acknowledged == []

    recorder.finish(5)
    assert recorder.acknowledged == ["0/5", "0/6", "0/9"]
    assert recorder.lane.heads == {0: 10}
    assert not recorder.lane.busy


async def test_partitions_do_not_wait_for_each_other() -> None:
    recorder = Recorder()
    await recorder.submit(0, partition=1)
    await recorder.submit(0, partition=2)
    recorder.finish(0, partition=2)

    assert recorder.lane.heads == {2: 1}


async def test_finishing_twice_counts_once() -> None:
    recorder = Recorder(limit=2)
    await recorder.submit(0, 1)
    recorder.finish(1)
    recorder.finish(1)
    await recorder.submit(2)
    waiting = asyncio.create_task(recorder.submit(3))
    await asyncio.sleep(0)

    assert not waiting.done()
    waiting.cancel()


async def test_submit_waits_while_the_limit_is_reached_and_goes_on_when_work_ends() -> None:
    recorder = Recorder(limit=2)
    await recorder.submit(0, 1)
    waiting = asyncio.create_task(recorder.submit(2))
    await asyncio.sleep(0)
    assert len(recorder.begun) == 2

    recorder.finish(1)  # done, though not at the head: there is room for other work
    await waiting
    assert recorder.ticket(2)


async def test_submit_waits_while_too_many_are_done_behind_an_unfinished_one() -> None:
    recorder = Recorder(limit=10, backlog=3)
    await recorder.submit(0, 1, 2)
    recorder.finish(1, 2)
    waiting = asyncio.create_task(recorder.submit(3))
    await asyncio.sleep(0)
    assert not waiting.done()

    recorder.finish(0)
    await waiting
    assert recorder.ticket(3)


async def test_bytes_are_given_back_as_events_are_acknowledged() -> None:
    recorder = Recorder()
    recorder.lane.buffered_bytes = 300  # counted by whoever fetched
    await recorder.submit(0, 1, 2, size=100)
    recorder.finish(1)
    assert recorder.lane.buffered_bytes == 300

    recorder.finish(0)
    assert recorder.lane.buffered_bytes == 100


async def test_nothing_abandoned_is_acknowledged_later() -> None:
    recorder = Recorder()
    await recorder.submit(0, 1, 2)
    recorder.finish(0, 2)

    assert recorder.lane.abandon() == 2
    assert not recorder.lane.is_current(recorder.ticket(1))
    recorder.finish(1)
    assert recorder.acknowledged == ["0/0"]
    assert recorder.lane.heads == {0: 1}  # what was done before may still be committed


async def test_abandoning_makes_room_for_the_next_generation() -> None:
    recorder = Recorder(limit=1)
    recorder.lane.buffered_bytes = 100
    await recorder.submit(0)
    recorder.lane.abandon()
    await asyncio.wait_for(recorder.submit(0), 1)
    old, new = recorder.begun
    recorder.lane.finish(old)
    assert recorder.lane.heads == {}
    assert recorder.lane.buffered_bytes == 0

    recorder.lane.finish(new)
    assert recorder.lane.heads == {0: 1}


async def test_an_event_whose_generation_ends_while_it_waits_is_dropped() -> None:
    recorder = Recorder(limit=1)
    await recorder.submit(0)
    waiting = asyncio.create_task(recorder.submit(1))
    await asyncio.sleep(0)
    recorder.lane.abandon()
    await asyncio.wait_for(waiting, 1)

    assert len(recorder.begun) == 1
    assert not recorder.lane.busy


async def test_the_oldest_age_is_that_of_the_oldest_head(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("shared.lane.time.monotonic", lambda: now)
    recorder = Recorder()
    assert recorder.lane.oldest_s == 0.0
    await recorder.submit(0)
    now = 103.0
    await recorder.submit(0, partition=1)
    now = 104.0

    assert recorder.lane.oldest_s == 4.0
    recorder.finish(0)
    assert recorder.lane.oldest_s == 1.0


async def test_progress_is_an_acknowledgement_or_the_first_event_after_idleness(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("shared.lane.time.monotonic", lambda: now)
    recorder = Recorder()
    now = 200.0
    await recorder.submit(0, 1)
    assert recorder.lane.last_progress == 200.0
    now = 201.0
    recorder.finish(1)
    assert recorder.lane.last_progress == 200.0
    now = 202.0
    recorder.finish(0)
    assert recorder.lane.last_progress == 202.0


@given(
    st.lists(st.integers(min_value=1, max_value=4), min_size=1, max_size=40).flatmap(
        lambda steps: st.tuples(st.just(steps), st.permutations(range(len(steps))))
    )
)
def test_the_head_never_passes_unfinished_work_and_never_stays_behind(case: tuple[list[int], list[int]]) -> None:
    """Offsets with holes, work that ends in any order: the head is exactly behind the last of the finished run."""
    steps, order = case
    offsets = [sum(steps[: index + 1]) for index in range(len(steps))]

    async def run() -> None:
        recorder = Recorder(limit=len(steps))
        await recorder.submit(*offsets)
        unfinished = set(offsets)
        for index in order:
            recorder.finish(offsets[index])
            unfinished.discard(offsets[index])
            done = [offset for offset in offsets if all(offset < other for other in unfinished)]
            assert recorder.lane.heads == ({0: done[-1] + 1} if done else {})
        assert not recorder.lane.busy

    asyncio.run(run())
