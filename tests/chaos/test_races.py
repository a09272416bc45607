"""Cancelling delayed mail at the moment it is due."""

import pytest

from tests.chaos.conftest import Run
from tests.chaos.races import cancel_when_due
from tests.support.servers import RealServers

pytestmark = pytest.mark.timeout(300)


async def test_a_thousand_wishes_at_the_moment_mail_is_due_leave_each_with_one_end(
    run: Run, real_servers: RealServers
) -> None:
    await run("races", real_servers, cancel_when_due)
