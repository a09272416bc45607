"""One HTTP request to somebody else's server: bounded in time, in size, and in where it may go."""

import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp
from yarl import URL

from services.callback.guard import find_refusal
from services.callback.verdict import Attempt
from shared.settings import Network

_EXCERPT_BYTES = 2048
_SCHEMES = ("http", "https")


class AddressRefused(OSError):
    """The address behind the URL may not be called from here; the message says why."""


class Requester:
    """Makes callback requests. Errors are outcomes: `post` raises nothing but cancellation."""

    def __init__(self, allowed: tuple[Network, ...], timeout_s: float) -> None:
        self._allowed = allowed
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session."""
        connector = aiohttp.TCPConnector(
            socket_factory=self._open_socket,
            limit=0,  # who calls bounds how many there are
            use_dns_cache=False,
            force_close=True,  # a kept connection that has died meanwhile would cost an attempt
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # an answer of 2 KiB may unpack to gigabytes
            headers={"User-Agent": "Milena", "Accept-Encoding": "identity"},
        )

    async def stop(self) -> None:
        """Close the session."""
        if self._session:
            await self._session.close()

    def _open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Called for the address about to be connected to, after every look-up: a name that resolves differently the
        second time (DNS rebinding) gains nothing, nor does any spelling of an address."""
        family, kind, protocol, _, address = info
        reason = find_refusal(address[0], self._allowed)
        if reason:
            raise AddressRefused(f"refused: the URL leads to {reason}")
        return socket.socket(family, kind, protocol)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Attempt:
        """One POST of JSON; no redirect is followed, and at most 2 KiB of the answer are read."""
        started_at, clock = datetime.now(UTC), time.monotonic()
        status: int | None = None
        error: str | None = None
        response, hopeless = "", False
        try:
            status, response = await self._post(url, body, headers)
        except TimeoutError:
            error = f"no complete answer within {self._timeout_s:g} s"
        except (aiohttp.InvalidURL, ValueError):
            error, hopeless = "refused: not an http(s) URL", True
        except (aiohttp.ClientError, OSError) as exc:
            refusal = _find_refused(exc)
            error, hopeless = (str(refusal), True) if refusal else (_describe(exc), False)
        duration_ms = round((time.monotonic() - clock) * 1000)
        return Attempt(started_at, duration_ms, status, error, response, hopeless)

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        assert self._session is not None, "start() comes first"
        # Encoded already: the query must arrive byte for byte as the caller wrote it.
        target = URL(url, encoded=url.isascii())
        if target.scheme not in _SCHEMES or not target.host:
            raise ValueError(url)
        headers = {"Content-Type": "application/json", **headers}
        async with self._session.post(target, data=body, headers=headers, allow_redirects=False) as answer:
            return answer.status, await _read_excerpt(answer)


async def _read_excerpt(answer: aiohttp.ClientResponse) -> str:
    """The answer's first bytes; the status counts even where the body breaks off."""
    excerpt = bytearray()
    try:
        while len(excerpt) < _EXCERPT_BYTES:
            chunk = await answer.content.read(_EXCERPT_BYTES - len(excerpt))
            if not chunk:
                break
            excerpt += chunk
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass
    # PostgreSQL's text holds no NUL.
    return excerpt.decode("utf-8", "replace").replace("\x00", "\ufffd")


def _find_refused(exc: BaseException) -> AddressRefused | None:
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, AddressRefused):
            return cause
        cause = cause.__cause__
    return None


def _describe(exc: BaseException) -> str:
    """What went wrong, without host or URL: those are known, and errors are shown."""
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return "the name could not be resolved"
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        return f"TLS: {exc.certificate_error}"[:300]
    if isinstance(exc, aiohttp.ClientConnectorError):
        return f"no connection: {exc.os_error.strerror or type(exc.os_error).__name__}"[:300]
    return f"the request broke off: {type(exc).__name__}"
