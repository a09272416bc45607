"""What a relay needs of whatever carries its mail: SMTP conversations, requests over HTTP."""

from collections.abc import Callable
from typing import Protocol

from services.sender.classify import Reply
from services.sender.conversation import Timeouts
from services.sender.parcel import Parcel


class Line(Protocol):
    """A connection that carries parcels one after another (conversation.py)."""

    @property
    def closing(self) -> bool:
        """No mail can begin here any more."""

    @property
    def farewell(self) -> Reply | None:
        """With what words the relay ended it, where it did."""

    def begin(self, parcel: Parcel) -> None:
        """Start with a parcel; the line asks for the next ones itself."""

    def check(self, now: float) -> None:
        """Drop what hangs, end politely what has been idle for long."""

    def silent_s(self, now: float) -> float:
        """How long the answer to a command has been awaited; 0.0 while idle, at the final dot and at the end."""

    @property
    def at_work(self) -> bool:
        """Whether a mail is on it."""

    def quit(self) -> None:
        """End a connection that no mail is on."""

    def close(self) -> None:
        """Drop it, whatever is going on."""


class Opened(Protocol):
    """A connection that has just been made."""

    @property
    def utf8(self) -> bool:
        """Whether it takes addresses beyond ASCII."""

    def converse(
        self,
        relay: str,
        timeouts: Timeouts,
        next_parcel: Callable[[], Parcel | None],
        on_idle: Callable[[Line], None],
        on_lost: Callable[[Line, list[Parcel]], None],
    ) -> Line:
        """Carry parcels from now on."""


class Address(Protocol):
    """Where a relay is."""

    @property
    def name(self) -> str:
        """The relay's name in events, metrics and settings."""
