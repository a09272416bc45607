"""Tickets: what lets a browser open a stream, which can send no header with it.

A ticket names the API key it was issued to (by its digest, of which nobody can make the key), one scope, and its end;
an HMAC keeps it from being made or changed by others. It may be used any number of times until it ends, so that any
process can tell from the ticket alone. Clock and secret are given, nothing is kept.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

TICKET_S = 60
_PREFIX = "lt_"
_HEAD = struct.Struct(">Q32s")
_MAC_BYTES = 32
_LONGEST = 256


class InvalidTicket(Exception):
    """It was not issued here, or has ended."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket stands for."""

    digest: bytes
    scope: str
    expires_at: datetime


class TicketOffice:
    """Issues and reads tickets under `secret`, from which a key of its own is derived; without one, a random key.

    Then another process, and this one after a restart, takes its tickets for invalid.
    """

    def __init__(self, secret: str | None, *, clock: Callable[[], float] = time.time) -> None:
        material = secret.encode() if secret else secrets.token_bytes(32)
        self._key = hmac.new(material, b"milena live tickets 1", hashlib.sha256).digest()
        self._clock = clock

    def issue(self, digest: bytes, scope: str) -> tuple[str, Ticket]:
        """A ticket for the key with this digest, good for TICKET_S."""
        ends = int(self._clock()) + TICKET_S
        body = _HEAD.pack(ends, digest) + scope.encode()
        text = base64.urlsafe_b64encode(body + self._sign(body)).decode().rstrip("=")
        return _PREFIX + text, Ticket(digest, scope, datetime.fromtimestamp(ends, UTC))

    def read(self, text: str) -> Ticket:
        """What the ticket stands for. Raises InvalidTicket."""
        body = text.removeprefix(_PREFIX)
        try:
            if len(text) > _LONGEST or body == text:
                raise InvalidTicket
            raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise InvalidTicket from None
        body_bytes, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if len(body_bytes) < _HEAD.size or not hmac.compare_digest(mac, self._sign(body_bytes)):
            raise InvalidTicket
        ends, digest = _HEAD.unpack_from(body_bytes)
        if self._clock() >= ends:
            raise InvalidTicket
        return Ticket(digest, body_bytes[_HEAD.size :].decode(), datetime.fromtimestamp(ends, UTC))

    def _sign(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()
