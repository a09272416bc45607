"""One connection: aiosmtpd's protocol, bounded, and with API keys as its passwords.

aiosmtpd reads commands one after the other from a stream, so PIPELINING costs nothing.
"""

import asyncio
import re
import ssl
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import structlog
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from shared.networks import Address, parse_address

log = structlog.get_logger(__name__)

_LINE_MAX = 256 * 1024  # octets; RFC 5321 allows 1,000, and many an application writes its HTML in one line
_FAILED_LOGINS = 3
_AUTH_PARAMETER = re.compile(r"\sAUTH=\S+", re.IGNORECASE)
_EMPTY_SENDER = re.compile(r"FROM:\s*<\s*>", re.IGNORECASE)
_IDENT = "Milena"


class Gatekeeper(Protocol):
    """What a connection asks of whoever runs it."""

    tls: ssl.SSLContext | None
    size_limit: int
    timeout_s: float
    hostname: str

    def enter(self, session: "SmtpSession", caller: Address | None) -> str | None:
        """A connection has begun; a reply where it is to end at once."""

    def may_log_in_openly(self, caller: Address | None) -> bool:
        """Whether a key may come from there without TLS."""

    async def log_in(self, session: "SmtpSession", secret: str) -> str | None:
        """Take the key for this connection; a reply where it is not taken."""

    def data_room(self, session: "SmtpSession") -> AbstractAsyncContextManager[None]:
        """Where a mail may come in: few at a time."""

    def leave(self, session: "SmtpSession") -> None:
        """The connection has ended."""


class SmtpSession(SMTP):  # type: ignore[misc]
    """`secret`: the API key that was given; None before. `at_work`: between DATA and its reply."""

    line_length_limit = _LINE_MAX

    def __init__(self, gatekeeper: Gatekeeper, handler: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            handler,
            data_size_limit=gatekeeper.size_limit,
            enable_SMTPUTF8=True,
            hostname=gatekeeper.hostname,
            ident=_IDENT,
            tls_context=gatekeeper.tls,
            timeout=gatekeeper.timeout_s,
            auth_required=True,
            authenticator=_hand_on,
            loop=loop,
        )
        self.secret: str | None = None
        self.caller: Address | None = None
        self.at_work = self.leaving = False
        self._gatekeeper = gatekeeper
        self._failed_logins = 0
        self._refusal: str | None = None

    def connection_made(self, transport: Any) -> None:
        """Called again once STARTTLS has been done; what was known of the caller is forgotten then (RFC 3207)."""
        super().connection_made(transport)
        self.secret = None
        if self._original_transport is None:
            peer = transport.get_extra_info("peername")
            caller = parse_address(str(peer[0])) if peer else None
            self._auth_require_tls = not self._gatekeeper.may_log_in_openly(caller)
            self.caller = caller
            self._refusal = self._gatekeeper.enter(self, caller)

    def connection_lost(self, error: Exception | None) -> None:
        """The end."""
        super().connection_lost(error)
        self._gatekeeper.leave(self)

    def dismiss(self) -> None:
        """Say goodbye and close; a mail at work is finished before."""
        self.leaving = True
        if not self.at_work and self.transport is not None:
            self._writer.write(b"421 4.3.2 The service is stopping; come again.\r\n")
            self.transport.close()

    async def _handle_client(self) -> None:
        if self._refusal:
            await self.push(self._refusal)
            if self.transport is not None:
                self.transport.close()
            return
        await super()._handle_client()

    def _timeout_cb(self) -> None:
        if self.transport is not None:
            self._writer.write(b"421 4.4.2 Nothing came for too long.\r\n")
            super()._timeout_cb()

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        """An empty sender is for reports, and an event has none. Postfix gives `AUTH=<>` with every mail (RFC 4954)."""
        given = _AUTH_PARAMETER.sub("", arg or "")
        if self.session.authenticated and _EMPTY_SENDER.match(given):
            await self.push("550 5.7.1 An empty sender is not possible here; give an address the API key may send from")
        else:
            await super().smtp_MAIL(given or None)

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        """Few at a time: what they read lies in memory."""
        async with self._gatekeeper.data_room(self):
            self.at_work = True
            try:
                await super().smtp_DATA(arg)
            finally:
                self.at_work = False
        if self.leaving:
            self.dismiss()

    async def auth_PLAIN(self, _: Any, args: list[str]) -> AuthResult:  # noqa: N802
        """RFC 4616."""
        return await self._judge(await super().auth_PLAIN(_, args))

    async def auth_LOGIN(self, _: Any, args: list[str]) -> AuthResult:  # noqa: N802
        """Never a standard, still what many clients begin with."""
        return await self._judge(await super().auth_LOGIN(_, args))

    async def _judge(self, result: AuthResult) -> AuthResult:
        """Look at the password; the user's name may be anything."""
        if result.auth_data is None:  # answered already: it was no password
            return result
        try:
            secret = result.auth_data.password.decode("ascii")
        except UnicodeDecodeError:
            secret = ""
        refusal = await self._gatekeeper.log_in(self, secret)
        if refusal is None:
            self.secret = secret
            return AuthResult(success=True)
        self._failed_logins += 1
        if self._failed_logins >= _FAILED_LOGINS and self.transport is not None:
            self._writer.write(f"{refusal}\r\n".encode())
            self.transport.close()
            return AuthResult(success=False, handled=True)
        return AuthResult(success=False, handled=False, message=refusal)


def _hand_on(_server: Any, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
    """aiosmtpd asks without waiting; the answer is sought in `_judge`."""
    return AuthResult(success=False, handled=False, auth_data=data)
