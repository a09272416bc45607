"""A gateway that exists in memory only: for tests of the client, through httpx's own transports."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import pytest

from milena import AsyncClient, Client, Patience

URL, KEY = "http://milena.test", "mk_secret-of-this-test"
Reply = httpx.Response | Exception


def problem(status: int, slug: str, *, retry_after: str | None = None, **extra: Any) -> httpx.Response:
    """A problem document."""
    document = {"type": f"/problems/{slug}", "title": "T", "status": status, "detail": f"it is {slug}.", **extra}
    headers = {"retry-after": retry_after} if retry_after else {}
    return httpx.Response(status, json=document, headers={"content-type": "application/problem+json", **headers})


def accepted(email_id: str = "1") -> httpx.Response:
    """A mail is accepted."""
    return httpx.Response(
        202, json={"id": email_id, "status": "queued"}, headers={"location": f"/v1/emails/{email_id}"}
    )


def status(state: str, *, complete: bool = True, email_id: str = "1") -> httpx.Response:
    """Where a mail stands."""
    recipient = {"address": "ann@example.org", "state": state, "response": "250 Ok", "at": "2026-01-31T09:00:00.000Z"}
    return httpx.Response(
        200, json={"id": email_id, "status": state, "complete": complete, "attempts": 1, "recipients": [recipient]}
    )


@dataclass
class Clock:
    """Time that passes only while somebody waits."""

    now: float = 1000.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.pauses.append(seconds)
        self.now += seconds


class FakeApi:
    """Gives its replies in order, the last of them for ever; `requests` is what it was asked."""

    def __init__(self, *replies: Reply | Callable[[httpx.Request], httpx.Response]) -> None:
        self._replies = list(replies)
        self.requests: list[httpx.Request] = []
        self.clock = Clock()

    def answer(self, request: httpx.Request) -> httpx.Response:
        """One answer."""
        self.requests.append(request)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply, Exception):
            raise reply
        if callable(reply):
            return reply(request)
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)  # one for each request

    def pass_time(self, monkeypatch: pytest.MonkeyPatch) -> Self:
        """Have every pause pass on the clock of this API, at once."""

        async def sleep(seconds: float) -> None:
            self.clock.sleep(seconds)

        monkeypatch.setattr(time, "sleep", self.clock.sleep)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        return self

    def patience(self, seconds: float = 30.0) -> Patience:
        """Patience by the clock of this API."""
        return Patience(seconds, clock=lambda: self.clock.now, chance=lambda: 1.0)

    def client(self, seconds: float = 30.0) -> Client:
        """A client that talks to nobody else."""
        return Client(URL, KEY, patience=self.patience(seconds), transport=httpx.MockTransport(self.answer))

    def async_client(self, seconds: float = 30.0) -> AsyncClient:
        """The same for asyncio."""
        return AsyncClient(URL, KEY, patience=self.patience(seconds), transport=httpx.MockTransport(self.answer))

    def bodies(self) -> Iterator[Any]:
        """The JSON of each request."""
        return (json.loads(request.content) for request in self.requests)
