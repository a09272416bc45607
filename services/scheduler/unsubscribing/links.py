"""Links by which one recipient leaves (RFC 8058): made without asking anybody, and by nobody but us. Pure.

A link says whose mailing it was and who the recipient is, by ids that give no address away, and an HMAC keeps it from
being made or changed by others. It never ends: mail lies in mailboxes for years, and what it stands for is in the link
itself, not in a row that is swept one day. The account is written out because a recipient's id is of one account.
"""

import base64
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

PATH = "/unsubscribe"
URL_LIMIT = 200  # characters of the public URL
LINK_ROOM = 400  # bytes of an event that a link takes at most: beside that URL an account's 86 in base64, all else 100
_IN_EARNEST, _TRIAL = 1, 2
_HEAD = struct.Struct("!B16s16s")
_MAC_BYTES = 16
_LONGEST = 200


class InvalidLink(Exception):
    """It was not made here, or is not whole."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a link stands for. One of a `trial` (a preview, a test mail) shows all and changes nothing."""

    account: str
    mailing: UUID
    recipient: UUID
    trial: bool = False


class LinkMaker:
    """Makes links; `public_url` is where `PATH` is reached from the internet."""

    def __init__(self, master_secret: str, public_url: str) -> None:
        self._key = _derive_key(master_secret)
        self._head = f"{public_url}{PATH}/"

    def begin(self, account: str, mailing: UUID, *, trial: bool = False) -> Callable[[UUID], str]:
        """What gives the URL of each recipient of one mailing."""
        start = bytes([_TRIAL if trial else _IN_EARNEST]) + mailing.bytes
        end = account.encode()

        def make(recipient: UUID) -> str:
            body = b"%b%b%b" % (start, recipient.bytes, end)
            signed = body + _sign(self._key, body)
            return self._head + base64.urlsafe_b64encode(signed).decode("ascii").rstrip("=")

        return make


class LinkReader:
    """Reads the links that were made with this master secret."""

    def __init__(self, master_secret: str) -> None:
        self._key = _derive_key(master_secret)

    def read(self, token: str) -> Link:
        """What the last part of a URL stands for. Raises InvalidLink."""
        try:
            if len(token) > _LONGEST:
                raise InvalidLink
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise InvalidLink from None
        body, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if len(body) <= _HEAD.size or not hmac.compare_digest(mac, _sign(self._key, body)):
            raise InvalidLink
        kind, mailing, recipient = _HEAD.unpack_from(body)
        if kind not in (_IN_EARNEST, _TRIAL):  # of a later version
            raise InvalidLink
        account = body[_HEAD.size :].decode()
        return Link(account, UUID(bytes=mailing), UUID(bytes=recipient), trial=kind == _TRIAL)


def _derive_key(master_secret: str) -> bytes:
    return hmac.digest(master_secret.encode(), b"milena unsubscribe links 1", "sha256")


def _sign(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:_MAC_BYTES]
