"""When a process is to end because its group no longer counts it as a member."""

from types import SimpleNamespace

import pytest

from shared.membership import Membership


class World:
    """A coordinator, a broker and a clock, all told what to do."""

    def __init__(self) -> None:
        self.now = 100.0
        self.answers = True
        self.beats = True
        self.coordinator = SimpleNamespace(_do_heartbeat=self._beat, _performed_join_prepare=False, generation=3)
        self.membership = Membership(
            lambda: self.coordinator, self._is_there, session_s=10, rebalance_s=60, clock=lambda: self.now
        )

    async def _beat(self) -> bool:
        return self.beats

    async def _is_there(self) -> bool:
        return self.answers

    async def look_until(self, end: float) -> str | None:
        """Look every second; the coordinator beats every third."""
        fault = None
        while self.now < end and not fault:
            self.now += 1
            if int(self.now) % 3 == 0:
                await self.coordinator._do_heartbeat()
            fault = await self.membership.find_fault()
        return fault


@pytest.fixture
def world() -> World:
    return World()


async def test_a_member_that_is_heard_stays(world: World) -> None:
    assert await world.look_until(1000) is None


async def test_silence_for_two_sessions_although_the_broker_answers_is_a_fault(world: World) -> None:
    await world.look_until(110)
    world.beats, world.coordinator.generation = False, -1
    fault = await world.look_until(1000)
    assert fault
    assert "generation -1" in fault
    assert 130 <= world.now <= 145


async def test_nobody_is_to_blame_while_kafka_is_away_or_has_just_come_back(world: World) -> None:
    await world.look_until(110)
    world.beats = world.answers = False
    assert await world.look_until(400) is None
    world.answers = True
    assert await world.look_until(408) is None
    world.beats = True
    assert await world.look_until(1000) is None


async def test_a_join_may_last_as_long_as_a_rebalance(world: World) -> None:
    await world.look_until(110)
    world.beats, world.coordinator._performed_join_prepare = False, True
    assert await world.look_until(175) is None
    assert await world.look_until(300)
