"""Publishers that use Kafka's transactions."""

from tests.chaos.conftest import Run
from tests.chaos.transactions import abort_and_commit
from tests.support.servers import RealServers


async def test_an_aborted_transaction_sends_nothing_and_hurts_nobody(run: Run, real_servers: RealServers) -> None:
    await run("transactions", real_servers, abort_and_commit)
