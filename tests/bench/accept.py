"""Accepting over HTTP: one process, single posts, each answered when Kafka has the mail."""

from tests.bench.figures import Figures
from tests.bench.load import start_load
from tests.bench.mails import make_body
from tests.bench.programs import measure_cpu_s
from tests.bench.senders import take_share
from tests.support.gateway import mint
from tests.support.servers import RealServers

_WARM_UP_S = 2.0


async def accept_with_gateway(servers: RealServers, seconds: float) -> Figures:
    """`POST /v1/emails` of the gateway's api."""
    return await _accept(servers, seconds, "services.gateway", "api")


async def accept_with_bare_api(servers: RealServers, seconds: float) -> Figures:
    """The same post to tests/bench/bare_api.py."""
    return await _accept(servers, seconds, "tests.bench.bare_api")


async def _accept(servers: RealServers, seconds: float, *command: str) -> Figures:
    with take_share(servers) as share:
        caller = await mint(share.stack.database_url)
        api = share.runner.start(*command)
        await api.wait_ready(60)
        url, authorization = f"{api.url}/v1/emails", caller.headers["Authorization"]
        start_load(url, make_body(), authorization, min(_WARM_UP_S, seconds)).finish()
        cpu_s = measure_cpu_s([api.pid])
        result = start_load(url, make_body(), authorization, seconds).finish()
        return {
            "requests_per_s": result.requests / result.seconds,
            "cpu_us": (measure_cpu_s([api.pid]) - cpu_s) / result.requests * 1e6,
            "p50_ms": result.p50_ms,
            "p99_ms": result.p99_ms,
        }
