"""When bulk mail leaves: in parts of the window worth a transaction, and after a while in parts of any size."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.scheduler.pacing.fairness import Claim
from services.scheduler.pacing.handing_out import HandingOut
from services.scheduler.pacing.store import View
from services.scheduler.pacing.window import Window
from services.scheduler.unsubscribing.lane_links import LaneLinks
from services.scheduler.waiting.delayed import Expiry
from shared.due import DueRow


class Store:
    """A window of 900, of which `in_flight` are taken; keeps what was asked of it."""

    def __init__(self, waiting: int = 100_000) -> None:
        self.in_flight = 0
        self.waiting = waiting
        self.taken: list[int] = []

    async def look(self) -> View:
        window = Window(size=900, in_flight=self.in_flight)
        return View(window, datetime.now(UTC), 0, [Claim(1, "shop", self.in_flight, self.waiting)])

    async def take(self, shares: Mapping[int, int], *_: Any) -> tuple[DueRow, list[Any]]:
        self.taken.append(sum(shares.values()))
        return DueRow(uuid4(), uuid4(), {}), []

    async def finish(self, group: DueRow) -> None:
        """Published."""


class Broker:
    available = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def hand_out_by(store: Store) -> HandingOut:
    anything: Any = None
    maker: Any = object()
    links = LaneLinks(anything, maker)
    expiry = Expiry(timedelta(days=3), timedelta(days=30))
    fakes: tuple[Any, Any] = (store, Broker())
    return HandingOut(*fakes, anything, links, lease=timedelta(seconds=60), expiry=expiry)


async def test_a_third_of_the_window_leaves_at_once_and_less_after_a_while(clock: list[float]) -> None:
    store = Store()
    handing_out = hand_out_by(store)
    await handing_out.hand_out()
    assert store.taken == [900]
    store.in_flight = 601
    await handing_out.hand_out()
    assert store.taken == [900], "it is not worth a transaction"
    store.in_flight = 600
    await handing_out.hand_out()
    assert store.taken == [900, 300]
    store.in_flight = 899
    clock[0] += 0.29
    await handing_out.hand_out()
    assert store.taken == [900, 300]
    clock[0] += 0.02
    await handing_out.hand_out()
    assert store.taken == [900, 300, 1], "mail that is stuck may hold the rest"


async def test_all_that_waits_leaves_at_once(clock: list[float]) -> None:
    store = Store(waiting=10)
    handing_out = hand_out_by(store)
    await handing_out.hand_out()
    store.in_flight = 800
    await handing_out.hand_out()
    assert store.taken == [10, 10]
