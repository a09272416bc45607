"""100,000 mails through smtp-sink with its 4xx, its 5xx and its disconnects (MILENA_CHAOS_SINK_MAILS: as many)."""

import pytest

from tests.chaos.conftest import Run
from tests.chaos.sums import add_up
from tests.support.servers import RealServers


@pytest.mark.timeout(1800)
async def test_every_mail_is_accounted_for_by_everybody_alike(run: Run, real_servers: RealServers) -> None:
    await run("sink", real_servers, add_up)
