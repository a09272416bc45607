"""The courier without network or database: how many requests at once, and how it ends."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from services.callback.courier import Courier
from services.callback.verdict import Attempt, Verdict
from shared.access import derive_webhook_secret
from shared.due import DueRow


class Receiver:
    """Stands for the requests and the store; a URL named `slow` answers only when told."""

    def __init__(self) -> None:
        self.settled: list[UUID] = []
        self.postponed: list[UUID] = []
        self.gate = asyncio.Event()

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Attempt:
        if "slow" in url:
            await self.gate.wait()
        if url == "bug":
            raise RuntimeError("a bug")
        return Attempt(datetime.now(UTC), 1, 200)

    async def settle(self, row: DueRow, attempt: Attempt, verdict: Verdict) -> bool:
        self.settled.append(row.id)
        return True

    async def postpone(self, rows: Sequence[DueRow], delay: timedelta) -> None:
        self.postponed.extend(row.id for row in rows)

    def create_courier(self, patience_s: float = 5, host_limit: int = 3) -> Courier:
        return Courier(
            self.post,
            self,
            find_secret=lambda account: derive_webhook_secret("m" * 32, account),
            delays=(timedelta(seconds=5),),
            limit=3,
            host_limit=host_limit,
            patience_s=patience_s,
        )


def build_row(url: str) -> DueRow:
    columns = {
        "url": url,
        "event_id": uuid4(),
        "email_id": uuid4(),
        "account": "default",
        "body": b"{}",
        "attempts": 0,
        "traceparent": None,
    }
    return DueRow(uuid4(), uuid4(), columns)


async def test_a_slow_receiver_does_not_hold_the_others_up() -> None:
    receiver = Receiver()
    courier = receiver.create_courier()
    slow, fast = build_row("slow"), build_row("fast")
    await courier.take([slow, fast])
    assert courier.room == 1
    await asyncio.sleep(0.01)
    assert receiver.settled == [fast.id]
    assert courier.room == 2
    receiver.gate.set()
    await courier.stop()
    assert receiver.settled == [fast.id, slow.id]


async def test_one_host_gets_its_share_and_no_more_until_a_request_to_it_has_ended() -> None:
    receiver = Receiver()
    courier = receiver.create_courier(host_limit=1)
    first, second, other = (build_row(f"https://{name}/") for name in ("slow.org", "SLOW.org", "other.org"))
    await courier.take([first, second, other])
    assert receiver.postponed == [second.id]
    receiver.gate.set()
    await asyncio.sleep(0.01)
    await courier.take([second])
    await courier.stop()
    assert set(receiver.settled) == {first.id, second.id, other.id}


async def test_room_is_told_and_a_bug_in_one_delivery_leaves_the_others_alone() -> None:
    receiver = Receiver()
    courier = receiver.create_courier()
    told: list[int] = []
    courier.on_room = lambda: told.append(courier.room)
    good = build_row("fast")
    await courier.take([build_row("bug"), good])
    await courier.stop()
    assert receiver.settled == [good.id]
    assert told == [2, 3]


async def test_a_stop_does_not_wait_for_ever_and_leaves_the_rest_to_the_lease() -> None:
    receiver = Receiver()
    courier = receiver.create_courier(patience_s=0.05)
    await courier.take([build_row("slow")])
    async with asyncio.timeout(2):
        await courier.stop()
    assert receiver.settled == []
