"""What happens around the sender, and to many senders at once."""

import pytest

from tests.chaos.conftest import Run
from tests.chaos.hanging import fall_silent
from tests.chaos.neighbours import hurt_everybody_else
from tests.chaos.storm import rebalance_often
from tests.support.servers import RealServers

pytestmark = pytest.mark.timeout(900)


async def test_the_other_services_killed_and_frozen_under_load(run: Run, real_servers: RealServers) -> None:
    await run("neighbours", real_servers, hurt_everybody_else)


async def test_a_rebalance_storm_costs_nothing(run: Run, real_servers: RealServers) -> None:
    await run("storm", real_servers, rebalance_often)


async def test_a_relay_that_hangs_before_and_after_the_dot(run: Run, real_servers: RealServers) -> None:
    await run("hanging", real_servers, fall_silent)
