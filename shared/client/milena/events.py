"""The account's events as they happen: server-sent events, read line by line. Pure.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from milena.calls import EVENTS, Answer, Call
from milena.errors import read_error
from milena.retrying import Patience
from milena.status import Event, read_time

# The only ends of lines that count; httpx's own reader of lines would break at U+2028 and the like, inside of JSON.
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")
_OF_THE_CONNECTION = frozenset({"heartbeat", "closed"})  # it goes on, or is made again
SILENCE_S = 60.0  # the server is heard of more often; after that the connection is taken for dead


@dataclass
class Subscription:
    """What is listened to, and how far it was heard. Feed it bytes; it gives events.

    `filters` are the parameters of `GET /v1/events`: email_id, tag, mailing_id, batch_id, type.
    """

    filters: dict[str, str]
    patience: Patience
    last_id: str | None = None
    path: str = EVENTS
    _failures: int = 0
    _told_pause_s: float | None = None
    _kind: str = ""
    _id: str | None = None
    _lines: list[str] = field(default_factory=list)
    _rest: bytes = b""

    def build_call(self) -> Call:
        """The request that goes on behind the last event heard."""
        self._clear()
        self._rest = b""
        resume = {"last-event-id": self.last_id} if self.last_id else {}
        return Call(
            "GET", self.path, self.filters, {"accept": "text/event-stream", "cache-control": "no-store", **resume}
        )

    def judge(self, answer: Answer) -> None:
        """Raises ApiError where asking again makes no sense."""
        if answer.status >= 400 and self.patience.find_pause(answer, 0) is None:
            raise read_error(answer.status, answer.body)

    def find_pause(self, answer: Answer | None = None) -> float:
        """Seconds until the next request, after a connection that ended, or an answer that will pass."""
        pause = self.patience.find_pause(answer or Answer(503), self._failures)
        self._failures += 1
        return max(pause or 0.0, self._told_pause_s or 0.0)

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Take what came; gives the events that are whole now."""
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        for line in lines:
            if line:
                self._take(line.decode("utf-8", "replace"))
            else:
                # An id without data says how far the stream is where nothing in it was for us.
                self.last_id = self._id if self._id is not None else self.last_id
                event = self._read() if self._lines else None
                self._clear()
                if event:
                    yield event

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._lines.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isdigit():
            self._told_pause_s = min(int(value[:9]) / 1000, self.patience.longest_s)

    def _read(self) -> Event | None:
        self._failures = 0
        try:
            data: Any = json.loads("\n".join(self._lines))
        except ValueError:
            return None
        if not isinstance(data, dict):
            return None
        if self._kind in _OF_THE_CONNECTION:
            return None
        event_id = data.get("ce_id") or self._id or ""
        kind = self._kind or str(data.get("type", "message"))
        return Event(str(event_id), kind, read_time(data.get("sent_at")), data, self.last_id)

    def _clear(self) -> None:
        self._kind, self._id, self._lines = "", None, []
