"""A thousand tasks a minute, and their schedulers killed again and again."""

import pytest

from tests.chaos.conftest import Run
from tests.chaos.tasks import kill_schedulers
from tests.support.servers import RealServers


@pytest.mark.timeout(600)
async def test_every_due_time_comes_to_one_success_whoever_is_killed(run: Run, real_servers: RealServers) -> None:
    await run("tasks", real_servers, kill_schedulers)
