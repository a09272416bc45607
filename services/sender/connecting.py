"""Opening a connection to the relay: TCP, TLS, EHLO, STARTTLS, AUTH by aiosmtplib, then handed over."""

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Literal, cast

import aiosmtplib

from services.sender.conversation import Abilities
from shared.retrying import Unavailable


class RelayUnavailable(Unavailable):
    """The relay cannot be reached, refuses us, or TLS or AUTH fails; the message says which, in its own words."""


class RelayRefusesCredentials(RelayUnavailable):
    """AUTH failed for good: only the operator can mend it."""


@dataclass(frozen=True, slots=True)
class RelayAddress:
    """Where the relay is and how to speak to it. `tls`: `none`, `starttls` (demanded) or `tls` (implicit)."""

    host: str
    port: int
    tls: Literal["none", "starttls", "tls"] = "none"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    verify: bool = True
    ca_file: str | None = None
    local_hostname: str = "localhost"
    timeout_s: float = 10.0

    @property
    def name(self) -> str:
        """`host:port`, the relay's name in events and metrics."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """A connection ready for mail."""

    transport: asyncio.Transport
    abilities: Abilities


async def open_connection(address: RelayAddress) -> OpenConnection:
    """Connect, secure, authenticate. Raises RelayUnavailable, RelayRefusesCredentials."""
    smtp = aiosmtplib.SMTP(
        hostname=address.host,
        port=address.port,
        use_tls=address.tls == "tls",
        start_tls=address.tls == "starttls",
        tls_context=tls_context(address),
        local_hostname=address.local_hostname,
        timeout=address.timeout_s,
    )
    try:
        await smtp.connect()
        if address.username is not None:
            await smtp.login(address.username, address.password or "")
        elif smtp.is_ehlo_or_helo_needed:
            await _greet(smtp)
    except asyncio.CancelledError:
        smtp.close()
        raise
    except aiosmtplib.SMTPAuthenticationError as exc:
        smtp.close()
        if exc.code < 500:
            raise RelayUnavailable(f"AUTH put off: the relay answered {exc.code}") from exc
        raise RelayRefusesCredentials(
            f"AUTH refused: {exc.code}; check MILENA_SMTP_USERNAME and MILENA_SMTP_PASSWORD"
        ) from exc
    except (aiosmtplib.SMTPException, OSError, ssl.SSLError, TimeoutError, ValueError) as exc:
        smtp.close()
        raise RelayUnavailable(_describe(exc)) from exc
    transport = cast(asyncio.Transport | None, smtp.transport)  # uvloop's is one in all but name
    if transport is None or transport.is_closing():
        smtp.close()
        raise RelayUnavailable("the relay closed the connection as soon as it was open")
    abilities = Abilities(pipelining=smtp.supports_extension("pipelining"), utf8=smtp.supports_extension("smtputf8"))
    smtp.transport = smtp.protocol = None  # ours from here; aiosmtplib must not close it
    return OpenConnection(transport, abilities)


async def _greet(smtp: aiosmtplib.SMTP) -> None:
    try:
        await smtp.ehlo()
    except aiosmtplib.SMTPHeloError:
        await smtp.helo()


def tls_context(address: RelayAddress) -> ssl.SSLContext | None:
    """What the relay's certificate is held against; None where nothing is encrypted."""
    if address.tls == "none":
        return None
    context = ssl.create_default_context(cafile=address.ca_file)
    if not address.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _describe(exc: Exception) -> str:
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"certificate refused: {cause.verify_message}; MILENA_SMTP_CA_FILE names the authority to trust"
        cause = cause.__cause__ or cause.__context__
    if isinstance(exc, aiosmtplib.SMTPResponseException):
        return f"the relay answered {exc.code} {exc.message}"
    return f"{type(exc).__name__}: {exc}"
