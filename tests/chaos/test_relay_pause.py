"""The only relay is away for longer than a poll interval."""

from functools import partial

import pytest

from tests.chaos.conftest import Run
from tests.chaos.relay_pause import pause_the_relay
from tests.support.servers import RealServers

pytestmark = pytest.mark.timeout(300)


async def test_a_pause_of_30_s_costs_nothing(run: Run, real_servers: RealServers) -> None:
    await run("relay_pause", real_servers, pause_the_relay)


async def test_with_a_poll_interval_of_15_s_the_same_pause_stalls(run: Run, real_servers: RealServers) -> None:
    await run("relay_pause_control", real_servers, partial(pause_the_relay, poll_interval_s=15))
