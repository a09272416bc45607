"""End to end: single HTTP posts in, mail at the relay, every service running."""

import time
from collections.abc import Sequence

from tests.bench.figures import Figures
from tests.bench.load import start_load
from tests.bench.mails import make_body
from tests.bench.programs import measure_cpu_s
from tests.bench.senders import take_share
from tests.bench.watching import WARM_UP, wait_quiet
from tests.support.gateway import mint
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess


async def send_through_stack(servers: RealServers, seconds: float) -> Figures:
    """Posts for so many seconds; the clock runs from the first of them to the last mail at the relay."""
    with take_share(servers) as share:
        caller = await mint(share.stack.database_url)
        processes = await share.start_stack()
        url, authorization = f"{processes[0].url}/v1/emails", caller.headers["Authorization"]
        first = start_load(url, make_body(), authorization, seconds * WARM_UP).finish()
        begun, _ = await wait_quiet(share.sink.count, first.accepted, "mails at the sink", processes)
        started, cpu_s = time.monotonic(), _measure_each_cpu_s(processes)
        load = start_load(url, make_body(), authorization, seconds).finish()
        done, ended = await wait_quiet(share.sink.count, begun + load.accepted, "mails at the sink", processes)
        await share.wait_settled(done, processes)
        used = {
            f"cpu_us_{name}": (after - cpu_s[name]) / (done - begun) * 1e6
            for name, after in _measure_each_cpu_s(processes).items()
        }
        return {
            "seconds": ended - started,
            "mails_per_s": (done - begun) / (ended - started),
            "accepted_per_s": load.accepted / load.seconds,
            "cpu_us": sum(used.values()),
            **used,
        }


def _measure_each_cpu_s(processes: Sequence[ServiceProcess]) -> dict[str, float]:
    """By process: `gateway_api`, `sender_worker`, …"""
    return {
        process.name.removeprefix("services.").replace(" ", "_"): measure_cpu_s([process.pid]) for process in processes
    }
