"""What a provider's send API is asked, and what its answers mean (docs/relays.md). Pure."""

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.utils import parsedate_to_datetime

from services.sender.classify import Reply
from services.sender.parcel import Parcel
from services.sender.safety import HEADER as ORIGINAL_RECIPIENTS

LONGEST_PAUSE_S = 300.0
"""What a provider may ask for at a time: then it is asked again, and a wrong clock keeps nobody waiting for a day."""

_MISDIRECTED = frozenset({404, 405, 407, 410})
_TOO_FAST = frozenset({408, 425, 429})
_AWAY = frozenset({502, 503, 504})
_PARSER = BytesHeaderParser(policy=policy.default)


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """Where the API is. `timeout_s`: for a whole request; what takes longer has an unknown outcome."""

    name: str
    url: str
    token: str = field(repr=False)
    verify: bool = True
    ca_file: str | None = None
    connect_timeout_s: float = 5.0
    timeout_s: float = 30.0

    def describe_settings(self, *fields: str) -> str:
        """How an operator finds those fields."""
        return f"{' and '.join(fields)} of relay {self.name!r} in MILENA_RELAYS"


def translate(status: int, said: str, address: HttpAddress, pause_s: float | None = None) -> tuple[Reply, bool]:
    """An HTTP answer as the SMTP reply nearest to it, and whether it is about the mail at all.

    The words begin with `HTTP` and the status, so that nobody takes the code for the provider's own. `pause_s`: what
    its `Retry-After` says; minded where the API has too much to do.
    """
    words = f"HTTP {status} {said}".rstrip()
    if 200 <= status < 300:
        return Reply(250, f"2.0.0 {words}"), True
    if status in (401, 403):
        return Reply(535, f"5.7.8 {words}; check {address.describe_settings('token')}"), False
    if 300 <= status < 400 or status in _MISDIRECTED:
        return Reply(530, f"5.7.0 {words}; check {address.describe_settings('url')}"), False
    if status in _TOO_FAST:
        return Reply(451, f"4.7.28 {words}", pause_s), True
    if 400 <= status < 500:
        return Reply(550, f"5.6.0 {words}"), True
    return Reply(451, f"{'4.3.2' if status in _AWAY else '4.3.0'} {words}", pause_s if status in _AWAY else None), True


def read_retry_after(text: str | None, now: datetime) -> float | None:
    """`Retry-After` (RFC 9110 §10.2.3), seconds or a date, in seconds from 0 to LONGEST_PAUSE_S; None: unreadable."""
    text = (text or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), LONGEST_PAUSE_S)
    try:
        moment = parsedate_to_datetime(text)
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_PAUSE_S)


def write_request(parcel: Parcel) -> bytes:
    """The JSON body. `envelope` says who gets the mail; `from`, `to`, `cc` and `subject` are what its header shows.

    Of a redirected mail (safety.py) `to` and `cc` are those of the envelope, for a provider that goes by them.
    """
    raw = unstuff(parcel.content)
    header = _PARSER.parsebytes(raw)
    assert isinstance(header, EmailMessage)
    envelope_to = [each.decode() for each in parcel.recipients]
    redirected = header[ORIGINAL_RECIPIENTS] is not None
    body = {
        "from": str(header["From"] or ""),
        "to": envelope_to if redirected else _list_addresses(header, "To"),
        "cc": [] if redirected else _list_addresses(header, "Cc"),
        "subject": str(header["Subject"] or ""),
        "message_id": str(header["Message-ID"] or ""),
        "envelope": {"from": parcel.sender.decode(), "to": envelope_to},
        "raw": base64.b64encode(raw).decode(),
    }
    return json.dumps(body).encode()


def unstuff(content: bytes) -> bytes:
    """Without the dots that RFC 5321 §4.5.2 has doubled."""
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n")[2:]


def _list_addresses(header: EmailMessage, name: str) -> list[str]:
    found = header[name]
    return [str(each) for each in found.addresses] if found else []
