"""A caller of the HTTP API that posts steadily and remembers every answer."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.rig import SENDER_ADDRESS, Rig
from tests.support.gateway import Caller


@dataclass(frozen=True)
class Answer:
    """One request's end: its status (0: no answer), when it was asked (monotonic) and how long that took."""

    status: int
    asked: float
    seconds: float


@dataclass
class Posting:
    """Posts `rate` mails a second, each request on its own, until stopped. What is accepted is told to the rig.

    `extra`: further fields of the mail of that number. `unheard`: recipients of mails whose request got no answer.
    """

    rig: Rig
    url: str
    caller: Caller
    rate: float
    extra: Callable[[int], dict[str, Any]] = lambda _: {}
    answers: list[Answer] = field(default_factory=list)
    unheard: set[str] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set and every answer has come."""
        limits = httpx.Limits(max_connections=500)
        async with httpx.AsyncClient(base_url=self.url, timeout=20, trust_env=False, limits=limits) as client:
            number = 0
            while not stop.is_set():
                task = asyncio.create_task(self._post(client, number))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                number += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1 / self.rate):
                        await stop.wait()
            await asyncio.gather(*self._tasks)

    def between(self, began: float, ended: float) -> list[Answer]:
        """The answers to what was asked in that time."""
        return [each for each in self.answers if began <= each.asked <= ended]

    async def _post(self, client: httpx.AsyncClient, number: int) -> None:
        to = f"http{number}@example.org"
        mail: dict[str, Any] = {"from": SENDER_ADDRESS, "to": [to], "subject": f"Code {number}", "text": "123456"}
        mail |= self.extra(number)
        asked = time.monotonic()
        status, email_id = 0, None
        with contextlib.suppress(httpx.HTTPError):
            answer = await client.post("/v1/emails", json=mail, headers=self.caller.headers)
            status, email_id = answer.status_code, answer.json().get("id")
        self.answers.append(Answer(status, asked, time.monotonic() - asked))
        if status == 202:
            self.rig.accepted[str(email_id)] = (to,)
        elif email_id:
            self.rig.maybe[str(email_id)] = (to,)
        elif status == 0:
            self.unheard.add(to)
