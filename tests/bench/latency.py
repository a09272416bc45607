"""How long a mail takes from its HTTP request to the relay, at a steady rate, every service running.

Posts leave at fixed times whether or not earlier ones have been answered, so a stall is seen by all that fall into it.
Clients and relay run in this process: one clock.
"""

import asyncio
import json
import time

from tests.bench.figures import Figures, NotMeasured
from tests.bench.mails import make_body
from tests.bench.posting import HttpConnection
from tests.bench.senders import take_share
from tests.bench.stamping import Stamps, run_stamping_relay
from tests.bench.targets import take_percentile
from tests.bench.watching import wait_count
from tests.support.gateway import mint
from tests.support.servers import RealServers

_CONNECTIONS = 50
_WARM_UP_S = 3.0


class Poster:
    """Posts at a rate; knows when each mail was posted and when its 202 came, by id."""

    def __init__(self, connections: list[HttpConnection], body: bytes) -> None:
        self.posted: dict[str, float] = {}
        self.accepted: dict[str, float] = {}
        self._free: asyncio.Queue[HttpConnection] = asyncio.Queue()
        self._body = body
        for connection in connections:
            self._free.put_nowait(connection)

    async def post_at(self, rate: float, seconds: float) -> None:
        """Post for so long. Raises NotMeasured when one is refused."""
        started = time.time()
        async with asyncio.TaskGroup() as posts:
            for number in range(int(rate * seconds)):
                due = started + number / rate
                await asyncio.sleep(max(0.0, due - time.time()))
                posts.create_task(self._post(due))

    async def _post(self, due: float) -> None:
        connection = await self._free.get()
        status, answer = await connection.post(self._body)
        self._free.put_nowait(connection)
        if status != 202:
            raise NotMeasured(f"a post was answered with {status}")
        email_id = json.loads(answer)["id"]
        self.posted[email_id], self.accepted[email_id] = due, time.time()


async def measure_latency(servers: RealServers, rate: float, seconds: float) -> Figures:
    """From the moment a post is due to the final dot at the relay; `accept_…`: to its 202."""
    stamps = Stamps()
    async with run_stamping_relay(stamps) as port:
        with take_share(servers, relay_port=port) as share:
            caller = await mint(share.stack.database_url)
            processes = await share.start_stack()
            url, authorization = f"{processes[0].url}/v1/emails", caller.headers["Authorization"]
            connections = [await HttpConnection.open(url, authorization) for _ in range(_CONNECTIONS)]
            body = json.dumps(make_body()).encode()
            warm_up, poster = Poster(connections, body), Poster(connections, body)
            await warm_up.post_at(rate, min(_WARM_UP_S, seconds))
            await poster.post_at(rate, seconds)
            wanted = len(warm_up.posted) + len(poster.posted)
            await wait_count(lambda: len(stamps.taken), wanted, "mails at the relay", processes)
            for connection in connections:
                connection.close()
    took = [stamps.taken[email_id] - due for email_id, due in poster.posted.items()]
    accepting = [poster.accepted[email_id] - due for email_id, due in poster.posted.items()]
    return {
        "p50_ms": take_percentile(took, 50) * 1e3,
        "p99_ms": take_percentile(took, 99) * 1e3,
        "longest_ms": max(took) * 1e3,
        "accept_p50_ms": take_percentile(accepting, 50) * 1e3,
        "accept_p99_ms": take_percentile(accepting, 99) * 1e3,
    }
