"""The small HTTP server of a worker: /healthz (alive), /readyz (working, with reasons), /metrics."""

import json
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address

from aiohttp import web

from shared.metrics import CONTENT_TYPE, render_metrics
from shared.settings import Network

Check = Callable[[], Awaitable[str | None]]
"""Returns None when well, otherwise one sentence saying what is wrong."""


class HealthServer:
    """Serves the three addresses on `host:port`; port 0 serves nothing."""

    def __init__(
        self,
        host: str,
        port: int,
        checks: Mapping[str, Check],
        metrics_networks: tuple[Network, ...],
        warnings: Mapping[str, Check] | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._checks = checks
        self._warnings = warnings or {}
        self._metrics_networks = metrics_networks
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises OSError where the port is taken."""
        if not self._port:
            return
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner:
            await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        ready, report = await run_checks(self._checks, self._warnings)
        return web.json_response(report, status=200 if ready else 503, dumps=json.dumps)

    async def _metrics(self, request: web.Request) -> web.Response:
        remote = ip_address(request.remote or "::")
        if not any(remote in network for network in self._metrics_networks if network.version == remote.version):
            return web.Response(status=403)
        return web.Response(body=render_metrics(), headers={"Content-Type": CONTENT_TYPE})


async def run_checks(
    checks: Mapping[str, Check], warnings: Mapping[str, Check] | None = None
) -> tuple[bool, dict[str, object]]:
    """Whether all are well, and `{"status": "ready"|"not ready", "checks": {name: "ok"|reason}}`.

    What `warnings` say leaves the process ready, and stands under that name where there is any.
    """
    results = {name: await check() for name, check in checks.items()}
    ready = all(reason is None for reason in results.values())
    report: dict[str, object] = {"status": "ready" if ready else "not ready"}
    report["checks"] = {name: reason or "ok" for name, reason in results.items()}
    warned = {name: reason for name, check in (warnings or {}).items() if (reason := await check())}
    if warned:
        report["warnings"] = warned
    return ready, report
