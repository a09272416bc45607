"""One mail as the wire sees it, and what the relay said of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from services.sender.classify import Reply


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
