"""Publishers that use Kafka's transactions."""

from tests.chaos.conftest import Run
from tests.chaos.transactions import abort_and_commit, die_in_a_transaction
from tests.support.servers import RealServers


async def test_an_aborted_transaction_sends_nothing_and_hurts_nobody(run: Run, real_servers: RealServers) -> None:
    await run("transactions", real_servers, abort_and_commit)


async def test_a_publisher_that_dies_in_a_transaction_holds_nobody_up_for_long(
    run: Run, real_servers: RealServers
) -> None:
    await run("dying_publisher", real_servers, die_in_a_transaction)
