"""Live events from a real API process on real Kafka: SSE and WebSocket, who hears what, resuming, and how streams end."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import orjson
import pytest
from websockets.asyncio.client import connect

from shared.access import ApiScope
from tests.support.gateway import Caller, mint, revoke, serve_gateway
from tests.support.live import Results, listen, make_result, publishing
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def served(real_servers: RealServers) -> Iterator[tuple[Stack, ServiceProcess]]:
    with serve_gateway(real_servers, "api") as (stack, [process]):
        yield stack, process


@pytest.fixture
def stack(served: tuple[Stack, ServiceProcess]) -> Stack:
    return served[0]


@pytest.fixture
async def api(served: tuple[Stack, ServiceProcess]) -> ServiceProcess:
    """The process; one that a test has stopped is started again."""
    process = served[1]
    if process.returncode is not None:
        process.restart()
        await process.wait_ready()
    return process


@pytest.fixture
async def caller(stack: Stack, request: pytest.FixtureRequest) -> Caller:
    return await mint(stack.database_url, account=request.node.name)


@pytest.fixture
async def results(stack: Stack) -> AsyncIterator[Results]:
    async with publishing(stack) as found:
        yield found


async def test_each_account_hears_its_own_events_whole(
    stack: Stack, api: ServiceProcess, caller: Caller, results: Results
) -> None:
    other = await mint(stack.database_url, account="other")
    async with listen(api.url, caller.headers) as mine, listen(api.url, other.headers) as theirs:
        sent = make_result(caller.key.account, metadata={"order": 1})
        failed = make_result(caller.key.account, reason="rejected")
        await results.publish(sent, make_result("other"))
        await mine.wait_for(1)
        await results.publish(failed)
        [(first, first_data), (second, second_data)] = await mine.wait_for(2)
        await theirs.wait_for(1)
        await asyncio.sleep(0.2)
    assert (first, second) == ("email.sent", "email.failed")
    assert len(first_data.pop("ce_id")) == len(second_data.pop("ce_id")) == 36
    assert [first_data, second_data] == [sent, failed]
    assert len(theirs.events) == 1
