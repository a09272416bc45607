"""What a relay announces in its EHLO reply, and what that means for a mail: parameters of MAIL, or no way at all."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.sender.classify import Reply
from services.sender.parcel import Parcel


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the relay announced. `size`: octets of the largest mail it takes, 0 for no bound, None where not said."""

    pipelining: bool = False
    utf8: bool = False
    eight_bit: bool = False
    size: int | None = None

    @classmethod
    def read(cls, extensions: Mapping[str, str]) -> "Abilities":
        """From EHLO's keywords in lower case, each with its parameters."""
        size = extensions.get("size")
        return cls(
            pipelining="pipelining" in extensions,
            utf8="smtputf8" in extensions,
            eight_bit="8bitmime" in extensions,
            size=None if size is None else _read_number(size),
        )

    def find_obstacle(self, parcel: Parcel) -> Reply | None:
        """What the relay would answer to this mail at best; told without asking, it is not to see any of it."""
        if parcel.needs_utf8 and not self.utf8:  # RFC 6531 §3.2
            return Reply(553, "5.6.7 the relay does not take addresses beyond ASCII")
        if self.size and len(parcel.content) > self.size:
            size = measure(parcel.content)
            if size > self.size:  # RFC 1870 §6.1
                return Reply(552, f"5.3.4 the mail has {size:,} octets, the relay takes {self.size:,}")
        return None

    def write_parameters(self, parcel: Parcel) -> bytes:
        """What follows the address in the MAIL command; nothing that was not announced."""
        parameters = b"" if self.size is None else b" SIZE=%d" % len(parcel.content)
        if parcel.needs_utf8:
            if self.eight_bit and not parcel.content.isascii():  # an address in a header; bodies are always 7-bit
                parameters += b" BODY=8BITMIME"
            parameters += b" SMTPUTF8"
        return parameters


def measure(content: bytes) -> int:
    """Octets as RFC 1870 §3 counts them: with every CRLF, without the dots that stuffing has added."""
    return len(content) - content.count(b"\r\n..") - content.startswith(b"..")


def _read_number(text: str) -> int:
    """A relay that writes nonsense has set no bound."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0
