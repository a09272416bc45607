"""Several APIs behind one origin: each request goes to the API that declares its path."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class Api:
    """One service's API and the path prefixes it answers."""

    name: str
    prefixes: tuple[str, ...]
    app: FastAPI
    state: dict[str, Any] = field(default_factory=dict)

    def answers(self, path: str) -> int:
        """Give the length of the longest prefix of ours that covers the path, 0 for none.

        ``/email`` covers ``/email`` and ``/email/…``, not ``/emails``; ``/api/tasks.`` ``/api/tasks.list``.
        """
        return max((len(prefix) for prefix in self.prefixes if _covers(prefix, path)), default=0)


class Dispatcher:
    """Routes by prefix, the longest first, and leaves what nobody declares to ``front``.

    Each API's lifespan is entered at start, in order, and left at the end; one that fails fails the start.
    """

    def __init__(self, apis: Sequence[Api], front: ASGIApp) -> None:
        self._apis = tuple(apis)
        self._front = front

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        api = self._choose(scope["path"])
        if api is None:
            await self._front(scope, receive, send)
        else:
            await api.app({**scope, "state": {**scope.get("state", {}), **api.state}}, receive, send)

    def _choose(self, path: str) -> Api | None:
        length, best = max(((api.answers(path), api) for api in self._apis), key=lambda pair: pair[0])
        return best if length else None

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        failure: Exception | None = None
        phase = "startup"
        try:
            async with AsyncExitStack() as lifespans:
                failure = await self._enter(lifespans)
                if failure is None:
                    phase = "shutdown"
                    await send({"type": "lifespan.startup.complete"})
                    await receive()
        except Exception as exc:
            failure = exc
        if failure is not None:
            await send({"type": f"lifespan.{phase}.failed", "message": f"{type(failure).__name__}: {failure}"})
            raise failure
        await send({"type": "lifespan.shutdown.complete"})

    async def _enter(self, lifespans: AsyncExitStack) -> Exception | None:
        """Start every API. An error is given, not raised: those before it are left in order, not torn."""
        for api in self._apis:
            try:
                entered = await lifespans.enter_async_context(api.app.router.lifespan_context(api.app))
            except Exception as exc:
                return exc
            api.state.update(entered or {})
        return None


async def ask(api: Api, scope: Scope, path: str) -> tuple[int, bytes]:
    """Send ``GET path`` to one API, on behalf of the request in ``scope``; gives status and body."""
    status, body = 500, bytearray()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            body.extend(message.get("body", b""))

    inner = {key: value for key, value in scope.items() if key not in {"app", "router", "endpoint", "path_params"}}
    inner |= {"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "state": dict(api.state)}
    await api.app(inner, receive, send)
    return status, bytes(body)


def _covers(prefix: str, path: str) -> bool:
    if prefix[-1].isalnum():
        return path == prefix or path.startswith(f"{prefix}/")
    return path.startswith(prefix)
