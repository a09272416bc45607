"""What a sender keeps in memory: with large mails queued, and over many small ones."""

import base64
import random
from typing import Any
from uuid import UUID

import orjson
import psutil

from tests.bench.figures import Figures
from tests.bench.mails import Record, make_mail, make_single, publish_records
from tests.bench.senders import Share, take_share
from tests.bench.targets import compute_growth
from tests.support.servers import RealServers
from tests.support.services import ServiceProcess

LARGE = 200_000
"""Bytes of a large mail's event."""
_SAMPLES = 10
_NOISE = base64.b64encode(random.Random(5).randbytes(2 * LARGE)).decode()  # what no codec makes smaller


async def drain_large(servers: RealServers, mails: int) -> Figures:
    """The peak while a backlog of large mails is drained: half have an attachment, half a long text."""
    with take_share(servers) as share:
        await publish_records(share.stack.bootstrap_servers, share.topics.requested, mails, make_large)
        watch = _MemoryWatch(share, mails)
        await watch.drain()
        return {"peak_mb": watch.peak_mb, "at_rest_mb": watch.at_rest_mb, "mails": mails}


async def drain_many(servers: RealServers, mails: int) -> Figures:
    """Resident memory each time another tenth of many small mails is through, and what it grows by after the first."""
    with take_share(servers) as share:
        await publish_records(share.stack.bootstrap_servers, share.topics.requested, mails, make_single)
        watch = _MemoryWatch(share, mails)
        await watch.drain()
        sampled = {f"after_{mails * (number + 1) // _SAMPLES}_mb": mb for number, mb in enumerate(watch.samples)}
        return {"growth_percent": compute_growth(watch.samples), "peak_mb": watch.peak_mb, **sampled}


def make_large(number: int) -> Record:
    """A mail of LARGE bytes that does not compress."""
    mail: dict[str, Any] = make_mail(number)
    begin = number * 4 % len(_NOISE) // 2 // 4 * 4
    noise = _NOISE[begin : begin + LARGE // 4 * 4]
    if number % 2:
        mail["attachments"] = [{"filename": "invoice.pdf", "content_type": "application/pdf", "content": noise}]
    else:
        mail["text"] = "\n".join(noise[start : start + 76] for start in range(0, len(noise), 76))
    return str(UUID(mail["id"])).encode(), orjson.dumps(mail)


class _MemoryWatch:
    """One sender from its start to the last mail, its memory looked at all the time."""

    def __init__(self, share: Share, mails: int) -> None:
        self.peak_mb = self.at_rest_mb = 0.0
        self.samples: list[float] = []
        self._share, self._mails = share, mails
        self._process: ServiceProcess | None = None

    async def drain(self) -> None:
        """Start the sender and wait for its last mail."""
        (self._process,) = self._share.start_senders(1)
        await self._share.wait_settled(self._mails, [self._process], on_look=self._look)
        self.at_rest_mb = self._read_mb()

    def _look(self, through: int) -> None:
        now = self._read_mb()
        self.peak_mb = max(self.peak_mb, now)
        if through >= self._mails * (len(self.samples) + 1) / _SAMPLES:
            self.samples.append(now)

    def _read_mb(self) -> float:
        assert self._process
        return float(psutil.Process(self._process.pid).memory_info().rss) / 1e6
