"""A batch on its way, followed live, while the scheduler dies."""

import pytest

from tests.chaos.batches import follow_a_batch
from tests.chaos.conftest import Run
from tests.support.servers import RealServers


@pytest.mark.timeout(1500)
async def test_a_batch_is_followed_to_its_end_while_the_scheduler_is_killed(
    run: Run, real_servers: RealServers
) -> None:
    await run("batch_followed", real_servers, follow_a_batch)
