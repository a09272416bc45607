"""One mail as the wire sees it, and what the relay said of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from services.sender.classify import Reply

_JUST_S = 5.0
_ALONE_S = 30.0


class Ending(Enum):
    """How far a transmission got."""

    ANSWERED = "answered"
    """Every recipient has a reply; `content_answered` says which of them answer the final dot."""
    INTERRUPTED = "interrupted"
    """The connection broke or hung before any content was written: a known outcome."""
    UNANSWERED = "unanswered"
    """Content was written and no reply came: unknown."""
    FORBIDDEN = "forbidden"
    """`may_write` said no just before the content; nothing was written, the connection was dropped."""


class Carrier(Protocol):
    """Whoever has a parcel on the wire, and hears of its ending first."""

    def takes_back(self, parcel: "Parcel") -> bool:
        """Whether this is no ending: it was the relay's own trouble, before any content, and the mail goes on."""


@dataclass(slots=True)
class Troubles:
    """How often a mail met a relay's trouble before its content that may be its own, over all parcels of one attempt.

    It may be where the relay works for others: it has just answered one, or has since this mail's last trouble there.
    A relay that answers nobody burns no attempt (P10), but for a mail that breaks its connections all alone.
    """

    count: int = 0
    met: dict[str, tuple[float, float]] = field(default_factory=dict)  # by relay: when, and its last answer then

    def add(self, relay: str, now: float, answered: float) -> None:
        """Trouble at monotonic time `now` at a relay that has last answered a mail at `answered`."""
        met, answered_then = self.met.get(relay, (-math.inf, -math.inf))
        if now - answered < _JUST_S or answered > answered_then or now - met > _ALONE_S:
            self.count += 1
        self.met[relay] = now, answered


@dataclass(slots=True, eq=False)
class Parcel:
    """Envelope and content of one transmission.

    `content`: CRLF lines, dot-stuffed (RFC 5321 §4.5.2), ending in CRLF, without the final dot.
    `may_write` is asked right before the content goes out; `on_done` is called once, must not block.
    `queued`: the monotonic time since which it waits for a connection. `carrier` may take it back instead of an ending.
    `replies` holds one entry per recipient: its RCPT reply where that refused it, otherwise what ended the mail.
    """

    sender: bytes
    recipients: list[bytes]
    content: bytes
    may_write: Callable[[], bool]
    on_done: Callable[["Parcel"], None]
    context: Any = None
    needs_utf8: bool = False
    ending: Ending | None = None
    replies: list[Reply | None] = field(default_factory=list)
    content_answered: bool = False
    diagnostic: str = ""
    relay: str = ""
    requeues: int = 0
    troubles: Troubles | None = None
    queued: float = 0.0
    carrier: Carrier | None = None

    def end(self, ending: Ending, diagnostic: str = "") -> None:
        """Tell the outcome, once."""
        if self.ending is None:
            self.ending = ending
            self.diagnostic = diagnostic
            if self.carrier is None or not self.carrier.takes_back(self):
                self.on_done(self)

    def revive(self) -> None:
        """Its ending was none: it goes on over another connection, as if nothing had been said of it."""
        self.ending, self.replies, self.diagnostic, self.content_answered = None, [], "", False
