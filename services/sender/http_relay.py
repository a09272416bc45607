"""A relay of kind `http`: a provider's send API that takes the mail as JSON with a bearer token (docs/relays.md)."""

import asyncio
import base64
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from urllib.parse import urlsplit

import aiohttp
import structlog

from services.sender.classify import Reply
from services.sender.connecting import RelayMisconfigured, RelayUnavailable, read_authority
from services.sender.conversation import Timeouts
from services.sender.parcel import Ending, Parcel
from services.sender.safety import HEADER as ORIGINAL_RECIPIENTS

log = structlog.get_logger(__name__)

_EXCERPT = 2000  # bytes of an answer that are read
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


def translate(status: int, said: str, address: HttpAddress) -> tuple[Reply, bool]:
    """An HTTP answer as the SMTP reply nearest to it, and whether it is about the mail at all.

    The words begin with `HTTP` and the status, so that nobody takes the code for the provider's own.
    """
    words = f"HTTP {status} {said}".rstrip()
    if 200 <= status < 300:
        return Reply(250, f"2.0.0 {words}"), True
    if status in (401, 403):
        return Reply(535, f"5.7.8 {words}; check {address.describe_settings('token')}"), False
    if 300 <= status < 400 or status in _MISDIRECTED:
        return Reply(530, f"5.7.0 {words}; check {address.describe_settings('url')}"), False
    if status in _TOO_FAST:
        return Reply(451, f"4.7.28 {words}"), True
    if 400 <= status < 500:
        return Reply(550, f"5.6.0 {words}"), True
    return Reply(451, f"{'4.3.2' if status in _AWAY else '4.3.0'} {words}"), True


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


@dataclass(frozen=True, slots=True)
class HttpOpening:
    """The API can be reached."""

    address: HttpAddress
    session: aiohttp.ClientSession
    find_key: Callable[[Parcel], str]
    utf8: bool = True

    def converse(
        self,
        relay: str,
        timeouts: Timeouts,
        next_parcel: Callable[[], Parcel | None],
        on_idle: Callable[["HttpLine"], None],
        on_lost: Callable[["HttpLine", list[Parcel]], None],
    ) -> "HttpLine":
        """Carry parcels from now on, one request at a time."""
        return HttpLine(self, timeouts.idle_s, next_parcel, on_idle, on_lost)


async def connect_http(address: HttpAddress, find_key: Callable[[Parcel], str]) -> HttpOpening:
    """See that the API can be reached. Raises RelayUnavailable, RelayMisconfigured."""
    parts = urlsplit(address.url)
    secure = parts.scheme == "https"
    try:
        context = read_authority(address) if secure else None
        async with asyncio.timeout(address.connect_timeout_s):
            port = parts.port or (443 if secure else 80)
            _, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
            writer.transport.abort()
    except ssl.SSLError as exc:
        where = address.describe_settings("ca_file", "url")
        raise RelayMisconfigured(f"TLS failed: {getattr(exc, 'verify_message', '') or exc.reason}; {where}") from exc
    except (OSError, TimeoutError) as exc:
        raise RelayUnavailable(f"{type(exc).__name__}: {exc}") from exc
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1, ssl=context or False, keepalive_timeout=60),
        timeout=aiohttp.ClientTimeout(total=address.timeout_s, sock_connect=address.connect_timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )
    return HttpOpening(address, session, find_key)


class _Forbidden(Exception):
    """`may_write` said no."""


class HttpLine:
    """One request after another over a connection of its own (relay.py)."""

    def __init__(
        self,
        opening: HttpOpening,
        idle_s: float,
        next_parcel: Callable[[], Parcel | None],
        on_idle: Callable[["HttpLine"], None],
        on_lost: Callable[["HttpLine", list[Parcel]], None],
    ) -> None:
        self.closing = False
        self.farewell: Reply | None = None
        self._opening = opening
        self._idle_s = idle_s
        self._next_parcel = next_parcel
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._idle_since = time.monotonic()
        self._asked = 0.0  # when the request at work began, until its content goes out
        self._task: asyncio.Task[None] | None = None

    def begin(self, parcel: Parcel) -> None:
        """Start with a parcel."""
        self._task = asyncio.create_task(self._carry(parcel), name="http-relay")

    def check(self, now: float) -> None:
        """An unused connection is closed; requests have their own time-outs."""
        if not self.closing and self._is_idle and now - self._idle_since > self._idle_s:
            self.quit()

    def silent_s(self, now: float) -> float:
        """How long the API has let us wait for a connection."""
        return now - self._asked if self._asked else 0.0

    def quit(self) -> None:
        """End while idle."""
        self.close()

    def close(self) -> None:
        """End, whatever is going on: a request whose content went out has an unknown outcome."""
        if self.closing:
            return
        self.closing = True
        if self._task and not self._is_idle:
            self._task.cancel()
        self._task = asyncio.create_task(self._end(self._task), name="http-relay-end")

    @property
    def _is_idle(self) -> bool:
        return self._task is None or self._task.done()

    async def _end(self, at_work: asyncio.Task[None] | None) -> None:
        if at_work:
            await asyncio.wait([at_work])
        await self._opening.session.close()
        self._on_lost(self, [])

    async def _carry(self, parcel: Parcel) -> None:
        following: Parcel | None = parcel
        while following:
            await self._send(following)
            following = None if self.closing else self._next_parcel()
        if not self.closing:
            self._idle_since = time.monotonic()
            self._task = None
            self._on_idle(self)

    async def _send(self, parcel: Parcel) -> None:
        address = self._opening.address
        parcel.relay = address.name
        ending, reply, why, about_mail = Ending.INTERRUPTED, None, "", False
        written = False
        payload = write_request(parcel)

        async def write() -> AsyncIterator[bytes]:
            nonlocal written
            if not parcel.may_write():
                raise _Forbidden
            written, self._asked = True, 0.0
            yield payload

        self._asked = time.monotonic()
        try:
            async with self._opening.session.post(
                address.url, data=write(), headers=self._headers(parcel, payload), allow_redirects=False
            ) as answer:
                said = await _read_excerpt(answer)
            reply, about_mail = translate(answer.status, said, address)
            ending = Ending.ANSWERED
        except _Forbidden:
            ending, why = Ending.FORBIDDEN, "the claim's lease has run out"
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            why = f"{type(exc).__name__}: {exc}"
            if isinstance(exc.__cause__, _Forbidden):
                ending, why = Ending.FORBIDDEN, "the claim's lease has run out"
            elif written:
                ending = Ending.UNANSWERED
        except asyncio.CancelledError:
            why = "the sender is shutting down"
            ending = Ending.UNANSWERED if written else Ending.INTERRUPTED
        except Exception as exc:
            log.exception("http relay failed", relay=address.name)
            why = f"internal error: {type(exc).__name__}"
            ending = Ending.UNANSWERED if written else Ending.INTERRUPTED
        finally:
            self._asked = 0.0
        parcel.replies = [reply] * len(parcel.recipients) if reply else []
        parcel.content_answered = about_mail
        parcel.end(ending, why)

    def _headers(self, parcel: Parcel, payload: bytes) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self._opening.address.token}",
            "Content-Type": "application/json",
            "Content-Length": str(len(payload)),
            "Idempotency-Key": self._opening.find_key(parcel),
            "User-Agent": "milena",
        }


async def _read_excerpt(answer: aiohttp.ClientResponse) -> str:
    """The beginning of what the API says, on one line. Its status is the answer: what is cut off does not matter."""
    text = b""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
        text = await answer.content.read(_EXCERPT)
    return " ".join(text.decode("utf-8", "replace").split())
