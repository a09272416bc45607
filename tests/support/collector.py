"""An OpenTelemetry collector that keeps what it gets, and a server for callbacks, in one."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class SpanSeen:
    """A span as it was exported; ids in hexadecimal, `parent` empty where it has none."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    failed: bool
    attributes: str


@dataclass
class Collector:
    """What has arrived so far."""

    url: str
    spans: list[SpanSeen] = field(default_factory=list)
    callbacks: list[web.Request] = field(default_factory=list)

    async def wait_for(
        self, trace: str, holds: Callable[[list[SpanSeen]], bool], timeout_s: float = 15
    ) -> list[SpanSeen]:
        """The spans of one trace, once something holds for them."""
        deadline = time.monotonic() + timeout_s
        while not holds(found := [each for each in self.spans if each.trace == trace]):
            assert time.monotonic() < deadline, [(each.service, each.name) for each in self.spans]
            await asyncio.sleep(0.05)
        return found


@asynccontextmanager
async def run_collector() -> AsyncIterator[Collector]:
    """Listen on loopback."""
    collector = Collector("")

    async def take_spans(request: web.Request) -> web.Response:
        body = await request.read()
        if body.startswith(b"\x1f\x8b"):
            body = gzip.decompress(body)
        collector.spans += _read(body)
        return web.Response()

    async def take_callback(request: web.Request) -> web.Response:
        collector.callbacks.append(request)
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", take_spans)
    app.router.add_post("/callback", take_callback)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()


def _read(body: bytes) -> list[SpanSeen]:
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    return [
        SpanSeen(
            service=next(
                each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
            ),
            name=span.name,
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            failed=span.status.code == 2,
            attributes=str(span.attributes),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
