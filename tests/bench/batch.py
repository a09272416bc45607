"""Accepting in batches: what `POST /v1/emails/batch` reaches of a bare producer that writes the same events."""

import json
import os
import sys

from tests.bench.figures import Figures, NotMeasured
from tests.bench.load import start_load
from tests.bench.mails import make_body
from tests.bench.programs import Running, measure_cpu_s
from tests.bench.senders import Share, count_records, take_share
from tests.support.gateway import mint
from tests.support.servers import RealServers

MAILS_PER_BATCH = 1000
_AT_ONCE = 4  # batches on their way, for either
_WARM_UP_S = 2.0


async def accept_batches(servers: RealServers, seconds: float) -> Figures:
    """`POST /v1/emails/batch` of the gateway's api, one process."""
    with take_share(servers) as share:
        caller = await mint(share.stack.database_url)
        api = share.runner.start("services.gateway", "api")
        await api.wait_ready(60)
        url, authorization = f"{api.url}/v1/emails/batch", caller.headers["Authorization"]
        body = {"emails": [make_body() for _ in range(MAILS_PER_BATCH)]}
        start_load(url, body, authorization, min(_WARM_UP_S, seconds), connections=_AT_ONCE).finish()
        cpu_s = measure_cpu_s([api.pid])
        result = start_load(url, body, authorization, seconds, connections=_AT_ONCE).finish()
        mails = result.requests * MAILS_PER_BATCH
        cpu_us = (measure_cpu_s([api.pid]) - cpu_s) / mails * 1e6
        await _check_records(share, mails)
        return {
            "mails_per_s": mails / result.seconds,
            "cpu_us": cpu_us,
            "p50_ms": result.p50_ms,
            "p99_ms": result.p99_ms,
        }


async def produce_bare(servers: RealServers, seconds: float) -> Figures:
    """tests/bench/bare_producer.py, one process."""
    with take_share(servers) as share:
        command = [sys.executable, "-m", "tests.bench.bare_producer", share.stack.bootstrap_servers]
        options = [share.topics.requested, str(MAILS_PER_BATCH), str(_AT_ONCE), str(min(_WARM_UP_S, seconds))]
        with Running([*command, *options, str(seconds)], dict(os.environ)) as producer:
            said = producer.wait(seconds + 60)
        figures: Figures = json.loads(said.strip().rpartition("\n")[2])
        mails = int(figures.pop("mails"))
        await _check_records(share, mails)
        return figures


async def _check_records(share: Share, mails: int) -> None:
    """A 202 says only that some of a batch was accepted."""
    async with count_records(share.stack.bootstrap_servers, share.topics.requested) as count:
        if (found := await count()) < mails:
            raise NotMeasured(f"only {found} of {mails} mails are on the topic")
