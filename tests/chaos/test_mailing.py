"""A mailing to 100,000 under SIGKILL; `MILENA_CHAOS_RECIPIENTS=2000` for a small one."""

import os
from functools import partial

import pytest

from tests.chaos.conftest import Run
from tests.chaos.mailing import ENV, send_a_mailing
from tests.support.servers import RealServers

_USUAL = 100_000


@pytest.mark.timeout(3600)
async def test_a_mailing_reaches_everybody_once_and_tells_the_truth_whoever_dies(
    run: Run, real_servers: RealServers
) -> None:
    recipients = int(os.environ.get("MILENA_CHAOS_RECIPIENTS", _USUAL))
    every_s = 10.0 if recipients >= _USUAL else 5.0
    await run("mailing", real_servers, partial(send_a_mailing, recipients=recipients, every_s=every_s), ENV)
