"""A relay that is off for two minutes, alone or with another behind it; and one that is limited."""

import pytest

from tests.chaos.conftest import Run
from tests.chaos.relay_outages import limit_one_of_two, lose_the_first_of_two, lose_the_only_relay
from tests.support.servers import RealServers

pytestmark = pytest.mark.timeout(420)


async def test_the_only_relay_off_for_two_minutes_costs_no_attempt(run: Run, real_servers: RealServers) -> None:
    await run("relay_off", real_servers, lose_the_only_relay)


async def test_with_a_second_relay_mail_goes_on(run: Run, real_servers: RealServers) -> None:
    await run("relay_first_off", real_servers, lose_the_first_of_two)


async def test_a_limit_holds_for_two_senders_together(run: Run, real_servers: RealServers) -> None:
    await run("relay_limited", real_servers, limit_one_of_two)
