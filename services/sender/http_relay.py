"""A relay of kind `http`: a provider's send API that takes the mail as JSON with a bearer token (docs/relays.md)."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp
import structlog

from services.sender.classify import Reply
from services.sender.connecting import RelayMisconfigured, RelayUnavailable, read_authority
from services.sender.conversation import Timeouts
from services.sender.http_api import HttpAddress, read_retry_after, translate, write_request
from services.sender.parcel import Ending, Parcel

log = structlog.get_logger(__name__)

_EXCERPT = 2000  # bytes of an answer that are read


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
        self._written = False  # whether that has begun
        self._task: asyncio.Task[None] | None = None

    def begin(self, parcel: Parcel) -> None:
        """Start with a parcel."""
        self._task = asyncio.create_task(self._carry(parcel), name="http-relay")

    def check(self, now: float) -> None:
        """An unused connection is closed; requests have their own time-outs."""
        if not self.closing and not self.at_work and now - self._idle_since > self._idle_s:
            self.quit()

    def silent_s(self, now: float) -> float:
        """How long the API has let us wait for a connection."""
        return now - self._asked if self._asked else 0.0

    @property
    def at_work(self) -> bool:
        """Whether a request is under way."""
        return self._task is not None and not self._task.done()

    def quit(self) -> None:
        """End while idle."""
        self.close()

    def close(self) -> None:
        """End, whatever is going on: a request whose content went out has an unknown outcome."""
        if self.closing:
            return
        if self._task and self.at_work:
            self._task.cancel()
        self._end_after_this()

    def _end_after_this(self) -> None:
        """As an SMTP connection does, where a request broke: the next one may meet the same."""
        if not self.closing:
            self.closing = True
            self._task = asyncio.create_task(self._end(self._task), name="http-relay-end")

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
        parcel.relay = self._opening.address.name
        self._asked, self._written = time.monotonic(), False
        ending, why = Ending.ANSWERED, ""
        try:
            reply, parcel.content_answered = await self._post(parcel)
            parcel.replies = [reply] * len(parcel.recipients)
        except (Exception, asyncio.CancelledError) as exc:
            ending, why = self._explain(exc)
        finally:
            self._asked = 0.0
        if ending in (Ending.INTERRUPTED, Ending.UNANSWERED):
            self._end_after_this()
        parcel.end(ending, why)

    async def _post(self, parcel: Parcel) -> tuple[Reply, bool]:
        address = self._opening.address
        payload = write_request(parcel)
        async with self._opening.session.post(
            address.url,
            data=self._write(parcel, payload),
            headers=self._headers(parcel, payload),
            allow_redirects=False,
        ) as answer:
            said = await _read_excerpt(answer)
        pause_s = read_retry_after(answer.headers.get("Retry-After"), datetime.now(UTC))
        return translate(answer.status, said, address, pause_s)

    async def _write(self, parcel: Parcel, payload: bytes) -> AsyncIterator[bytes]:
        """The body, at the last moment."""
        if not parcel.may_write():
            raise _Forbidden
        self._written, self._asked = True, 0.0
        yield payload

    def _explain(self, exc: BaseException) -> tuple[Ending, str]:
        """What a request without an answer means for its mail."""
        if isinstance(exc, _Forbidden) or isinstance(exc.__cause__, _Forbidden):
            return Ending.FORBIDDEN, "the claim's lease has run out"
        ending = Ending.UNANSWERED if self._written else Ending.INTERRUPTED
        if isinstance(exc, asyncio.CancelledError):
            return ending, "the sender is shutting down"
        if isinstance(exc, aiohttp.ClientError | OSError | TimeoutError):
            return ending, f"{type(exc).__name__}: {exc}"
        log.error("http relay failed", relay=self._opening.address.name, exc_info=exc)
        return ending, f"internal error: {type(exc).__name__}"

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
    words = text.decode("utf-8", "replace")
    return " ".join("".join(each if each.isprintable() else " " for each in words).split())
