"""5,000 mails, and a sender process ended five times in the middle of them."""

from functools import partial

import pytest

from tests.chaos.conftest import Run
from tests.chaos.killed import end_senders
from tests.support.servers import RealServers


@pytest.mark.timeout(600)
async def test_a_killed_sender_loses_nothing_and_doubles_only_what_it_calls_unknown(
    run: Run, real_servers: RealServers
) -> None:
    await run("killed", real_servers, partial(end_senders, gently=False))


@pytest.mark.timeout(600)
async def test_a_terminated_sender_doubles_nothing(run: Run, real_servers: RealServers) -> None:
    await run("terminated", real_servers, partial(end_senders, gently=True))
