"""Streams of state: one look for all who watch, the newest state and nothing twice."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from shared.live import Message, Poller, Slots, Snapshot, TooManyStreams, ViewRequest, streams
from shared.retrying import Unavailable

EVERY_S = 0.02


class Source:
    """Something whose state changes, and how often it was looked at."""

    def __init__(self) -> None:
        self.states: dict[str, Snapshot] = {}
        self.looks: list[tuple[str, ...]] = []
        self.away = False

    def set(self, key: str, revision: str, *, is_last: bool = False) -> None:
        self.states[key] = Snapshot(Message(revision, "state", revision.encode()), is_last)

    async def look(self, keys: Sequence[str]) -> Mapping[str, Snapshot]:
        self.looks.append(tuple(sorted(keys)))
        if self.away:
            raise Unavailable("away")
        return {key: self.states[key] for key in keys if key in self.states}


async def allow() -> bool:
    return True


def view(key: str = "a", since: str | None = None, stopping: asyncio.Event | None = None) -> ViewRequest[str]:
    return ViewRequest(key, "default", since, allow, stopping)


@asynccontextmanager
async def polling(source: Source, *, per_account: int = 1000) -> AsyncIterator[Poller[str]]:
    poller: Poller[str] = Poller(source.look, Slots(per_process=1000, per_account=per_account), every_s=EVERY_S)
    yield poller
    await poller.stop()


async def watch(poller: Poller[str], request: ViewRequest[str], told: list[str]) -> None:
    async with poller.open(request, "sse") as stream:
        async for messages in stream:
            told += [message.id or message.type for message in messages]


async def wait_for(told: list[str], count: int) -> None:
    async with asyncio.timeout(5):
        while len(told) < count:
            await asyncio.sleep(0.001)


async def test_200_viewers_cost_one_look_a_turn_and_nobody_costs_none() -> None:
    source = Source()
    for number in range(10):
        source.set(f"k{number}", "1")
    async with polling(source) as poller:
        told: list[str] = []
        tasks = [asyncio.create_task(watch(poller, view(f"k{number % 10}"), told)) for number in range(200)]
        await wait_for(told, 200)
        looks = len(source.looks)
        await asyncio.sleep(10 * EVERY_S)
        assert len(source.looks) - looks <= 11
        assert source.looks[-1] == tuple(f"k{number}" for number in range(10))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(2 * EVERY_S)
        looks = len(source.looks)
        await asyncio.sleep(5 * EVERY_S)
        assert len(source.looks) == looks
        source.set("k0", "2", is_last=True)
        late: list[str] = []
        await watch(poller, view("k0"), late)  # and it begins again
        assert late == ["2"]


async def test_a_change_is_told_once_and_the_last_one_ends_the_stream() -> None:
    source = Source()
    source.set("a", "1")
    async with polling(source) as poller:
        told: list[str] = []
        task = asyncio.create_task(watch(poller, view(), told))
        await wait_for(told, 1)
        await asyncio.sleep(3 * EVERY_S)
        source.set("a", "2")
        await wait_for(told, 2)
        source.set("a", "3", is_last=True)
        await asyncio.wait_for(task, 5)
        assert told == ["1", "2", "3"]


async def test_who_comes_back_hears_only_what_is_new_to_him() -> None:
    source = Source()
    source.set("a", "5")
    async with polling(source) as poller:
        told: list[str] = []
        task = asyncio.create_task(watch(poller, view(since="5"), told))
        await asyncio.sleep(3 * EVERY_S)
        assert told == []
        source.set("a", "6", is_last=True)
        await asyncio.wait_for(task, 5)
        assert told == ["6"]
        over: list[str] = []
        await asyncio.wait_for(watch(poller, view(since="6"), over), 5)
        assert over == []


async def test_an_outage_is_waited_for() -> None:
    source = Source()
    source.set("a", "1", is_last=True)
    source.away = True
    async with polling(source) as poller:
        told: list[str] = []
        task = asyncio.create_task(watch(poller, view(), told))
        await asyncio.sleep(3 * EVERY_S)
        assert told == []
        source.away = False
        await asyncio.wait_for(task, 5)
        assert told == ["1"]


async def test_a_process_that_stops_says_so_and_a_key_that_is_revoked_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_CHECK_S", 0.01)
    source, stopping = Source(), asyncio.Event()

    async def refuse() -> bool:
        return False

    async with polling(source) as poller:
        told: list[str] = []
        await asyncio.wait_for(watch(poller, ViewRequest("a", "default", None, refuse), told), 5)
        assert told == ["closed"]
        task = asyncio.create_task(watch(poller, view(stopping=stopping), told))
        await asyncio.sleep(EVERY_S)
        stopping.set()
        await asyncio.wait_for(task, 5)
        assert told == ["closed", "closed"]


async def test_streams_are_counted_with_their_accounts() -> None:
    source = Source()
    async with polling(source, per_account=1) as poller, poller.open(view(), "sse"):
        with pytest.raises(TooManyStreams):
            async with poller.open(view(), "sse"):
                pass


async def test_who_watches_what_is_deleted_is_told_so_and_the_others_go_on() -> None:
    source = Source()
    gone: list[str] = []
    stays: list[str] = []
    source.set("a", "1")
    source.set("b", "1")
    async with polling(source) as poller:
        watching = asyncio.create_task(watch(poller, view("a"), gone))
        other = asyncio.create_task(watch(poller, view("b"), stays))
        await wait_for(gone, 1)
        await wait_for(stays, 1)
        del source.states["a"]
        async with asyncio.timeout(5):
            await watching
        assert gone == ["1", "closed"]
        source.set("b", "2", is_last=True)
        async with asyncio.timeout(5):
            await other
    assert stays == ["1", "2"]
