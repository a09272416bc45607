"""A client that follows a batch or a mailing over a WebSocket, and comes back wherever it is cut off."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

_PAUSE_S = 0.1


@dataclass
class Follower:
    """What it was told: every message in order, and how often it had to connect."""

    url: str
    headers: dict[str, str]
    messages: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0
    close_code: int | None = None

    @property
    def percents(self) -> list[float]:
        """How far it was, as it was told; a mailing says so once it knows how many it is for."""
        shown = [message["data"].get("progress", message["data"]) for message in self.messages]
        return [each["percent"] for each in shown if "percent" in each]

    async def follow(self, path: str) -> None:
        """Until it is finished. `path`: where its events are."""
        while not (self.messages and self.messages[-1]["type"].endswith(".finished")):
            try:
                await self._listen(path)
            except (ConnectionClosed, InvalidHandshake, OSError, TimeoutError):
                await asyncio.sleep(_PAUSE_S)

    async def _listen(self, path: str) -> None:
        last = self.messages[-1]["id"] if self.messages else ""
        address = f"{self.url.replace('http', 'ws', 1)}{path}?last_event_id={last}"
        async with connect(address, additional_headers=self.headers, proxy=None) as socket:
            self.connections += 1
            async for text in socket:
                message = json.loads(text)
                if message["type"].endswith((".progress", ".finished")):
                    self.messages.append(message)
            self.close_code = socket.close_code


def write_lines(mails: Iterable[dict[str, Any]]) -> bytes:
    """Mails as an upload, one a line."""
    return b"".join(json.dumps(mail).encode() + b"\n" for mail in mails)
