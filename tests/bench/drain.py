"""Draining the topic: publish first, then start the senders and watch the mail come out at the relay."""

from collections.abc import Callable

from tests.bench.figures import Figures
from tests.bench.mails import RECIPIENTS_PER_BULK, Record, make_bulk, make_single, publish_records
from tests.bench.senders import take_share
from tests.bench.watching import WARM_UP, Stopwatch
from tests.support.servers import RealServers


async def drain_singles(servers: RealServers, mails: int, senders: int) -> Figures:
    """Single mails, each an event of its own."""
    return await _drain(servers, mails, mails, make_single, senders)


async def drain_bulk(servers: RealServers, mails: int, senders: int) -> Figures:
    """Bulk events of RECIPIENTS_PER_BULK mails each; every mail has its ledger row and its `email.sent`."""
    events = mails // RECIPIENTS_PER_BULK
    return await _drain(servers, events, events * RECIPIENTS_PER_BULK, make_bulk, senders)


async def _drain(servers: RealServers, events: int, mails: int, make: Callable[[int], Record], senders: int) -> Figures:
    with take_share(servers) as share:
        await publish_records(share.stack.bootstrap_servers, share.topics.requested, events, make)
        processes = share.start_senders(senders)
        begun = await share.wait_sunk(int(mails * WARM_UP), processes)
        watch = Stopwatch(processes, begun)
        await share.wait_settled(mails, processes)
        return watch.read(mails)
