"""20,000 bulk mails, and the schedulers that hand them out killed again and again."""

import pytest

from tests.chaos.bulk import kill_schedulers
from tests.chaos.conftest import Run
from tests.support.servers import RealServers


@pytest.mark.timeout(900)
async def test_bulk_mail_is_sent_once_and_counted_whoever_dies_handing_it_out(
    run: Run, real_servers: RealServers
) -> None:
    await run("bulk", real_servers, kill_schedulers)
