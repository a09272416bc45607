import asyncio
import time

from shared.batching import Record
from shared.turns import take_turns
from tests.support.turns import count_turns

RECORDS = [Record("t", 0, offset, 0, b"{}", ()) for offset in range(30)]


async def test_heartbeats_go_out_between_records_that_take_long_to_read() -> None:
    silences = []

    async def beat() -> None:
        since = time.monotonic()
        while True:
            await asyncio.sleep(0)
            silences.append(time.monotonic() - since)
            since = time.monotonic()

    heart = asyncio.create_task(beat())
    read = []
    async for record in take_turns(RECORDS):
        time.sleep(0.02)
        read.append(record)
    heart.cancel()

    assert read == RECORDS
    assert len(silences) > 5
    assert max(silences) < 0.5


async def test_records_that_are_read_quickly_are_not_held_up() -> None:
    async with count_turns() as turns:
        assert [record async for record in take_turns(RECORDS)] == RECORDS
        assert turns() == 0
