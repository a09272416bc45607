"""A relay that answers long after parking and lease."""

import pytest

from tests.chaos.conftest import Run
from tests.chaos.slow_relay import wait_out_a_slow_relay
from tests.support.servers import RealServers


@pytest.mark.timeout(900)
async def test_a_mail_whose_answer_takes_45_s_is_sent_once(run: Run, real_servers: RealServers) -> None:
    await run("slow_relay", real_servers, wait_out_a_slow_relay)
