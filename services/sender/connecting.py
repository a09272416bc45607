"""Opening a connection to the relay: TCP, TLS, EHLO, STARTTLS, AUTH by aiosmtplib, then handed over."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

import aiosmtplib

from services.sender.abilities import Abilities
from services.sender.classify import Reply, is_for_operators
from services.sender.conversation import Conversation, Timeouts
from services.sender.parcel import Parcel
from services.sender.smtp_client import SmtpClient, conceal
from shared.retrying import Unavailable


class RelayUnavailable(Unavailable):
    """The relay cannot be reached, refuses us, or TLS or AUTH fails; the message says which, in its own words."""


class RelayMisconfigured(RelayUnavailable):
    """Only an operator can mend it; the message names the setting."""


class RelayRefusesCredentials(RelayMisconfigured):
    """AUTH failed for good."""


@dataclass(frozen=True, slots=True)
class RelayAddress:
    """Where the relay is and how to speak to it. `tls`: `none`, `starttls` (demanded) or `tls` (implicit).

    `listed_as` is its name in MILENA_RELAYS; None where MILENA_SMTP_* describe it.
    """

    host: str
    port: int
    tls: Literal["none", "starttls", "tls"] = "none"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    verify: bool = True
    ca_file: str | None = None
    local_hostname: str = "localhost"
    timeout_s: float = 10.0
    listed_as: str | None = None

    @property
    def name(self) -> str:
        """The relay's name in events and metrics: its own, or `host:port`."""
        return self.listed_as or f"{self.host}:{self.port}"

    def describe_settings(self, *fields: str) -> str:
        """How an operator finds those fields: `MILENA_SMTP_USERNAME and MILENA_SMTP_PASSWORD`."""
        if self.listed_as is None:
            return " and ".join(f"MILENA_SMTP_{each.upper()}" for each in fields)
        return f"{' and '.join(fields)} of relay {self.listed_as!r} in MILENA_RELAYS"


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """A connection ready for mail."""

    transport: asyncio.Transport
    abilities: Abilities

    @property
    def utf8(self) -> bool:
        """Whether it takes addresses beyond ASCII."""
        return self.abilities.utf8

    def converse(
        self,
        relay: str,
        timeouts: Timeouts,
        next_parcel: Callable[[], Parcel | None],
        on_idle: Callable[[Conversation], None],
        on_lost: Callable[[Conversation, list[Parcel]], None],
    ) -> Conversation:
        """Carry parcels from now on."""
        conversation = Conversation(relay, self.abilities, timeouts, next_parcel, on_idle, on_lost)
        conversation.take_over(self.transport)
        return conversation


async def open_connection(address: RelayAddress) -> OpenConnection:
    """Connect, secure, authenticate. Raises RelayUnavailable, RelayMisconfigured, RelayRefusesCredentials."""
    smtp = SmtpClient(
        hostname=address.host,
        port=address.port,
        use_tls=address.tls == "tls",
        start_tls=address.tls == "starttls",
        tls_context=None if address.tls == "none" else read_authority(address),
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
        raise _translate_refusal(exc, address) from exc
    except (aiosmtplib.SMTPException, OSError, ssl.SSLError, TimeoutError, ValueError) as exc:
        smtp.close()
        raise _translate(exc, address) from exc
    transport = cast(asyncio.Transport | None, smtp.transport)  # uvloop's is one in all but name
    if transport is None or transport.is_closing():
        smtp.close()
        raise RelayUnavailable("the relay closed the connection as soon as it was open")
    abilities = Abilities.read(smtp.esmtp_extensions)
    smtp.transport = smtp.protocol = None  # ours from here; aiosmtplib must not close it
    return OpenConnection(transport, abilities)


async def _greet(smtp: aiosmtplib.SMTP) -> None:
    try:
        await smtp.ehlo()
    except aiosmtplib.SMTPHeloError:
        await smtp.helo()


class Verified(Protocol):
    """An address that says how certificates are verified there."""

    @property
    def verify(self) -> bool:
        """Whether they are."""

    @property
    def ca_file(self) -> str | None:
        """The authority to trust (PEM); None: the system's."""

    def describe_settings(self, *fields: str) -> str:
        """How an operator finds those fields."""


def build_tls_context(address: Verified) -> ssl.SSLContext:
    """What the relay's certificate is held against. Raises OSError where the authority cannot be read."""
    context = ssl.create_default_context(cafile=address.ca_file)
    if not address.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def read_authority(address: Verified) -> ssl.SSLContext:
    """The same. Raises RelayMisconfigured, which names the setting."""
    try:
        return build_tls_context(address)
    except OSError as exc:
        where = address.describe_settings("ca_file")
        raise RelayMisconfigured(f"the file in {where} cannot be read: {type(exc).__name__}") from exc


def _translate_refusal(exc: aiosmtplib.SMTPAuthenticationError, address: RelayAddress) -> RelayUnavailable:
    reply = Reply(exc.code, " ".join(exc.message.split()))
    said = conceal(str(reply), address.username, address.password)
    if exc.code < 500 and not is_for_operators(reply):
        return RelayUnavailable(f"AUTH put off: the relay answered {said}")
    return RelayRefusesCredentials(f"AUTH refused: {said}; check {address.describe_settings('username', 'password')}")


def _translate(exc: Exception, address: RelayAddress) -> RelayUnavailable:
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            where = address.describe_settings("ca_file")
            return RelayMisconfigured(f"certificate refused: {cause.verify_message}; the authority to trust: {where}")
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            where = address.describe_settings("tls", "port")
            return RelayMisconfigured(f"TLS failed: {cause.reason or cause}; check {where}")
        cause = cause.__cause__ or cause.__context__
    if isinstance(exc, aiosmtplib.SMTPResponseException):
        return _translate_reply(exc, address)
    if "STARTTLS extension not supported" in str(exc):
        where = address.describe_settings("tls")
        return RelayMisconfigured(f"the relay does not offer STARTTLS; check {where}")
    if "AUTH extension is not supported" in str(exc) or "authentication method" in str(exc):
        where = address.describe_settings("username", "tls")
        return RelayMisconfigured(f"no way to AUTH: {exc}; check {where}")
    return RelayUnavailable(f"{type(exc).__name__}: {exc}")


def _translate_reply(exc: aiosmtplib.SMTPResponseException, address: RelayAddress) -> RelayUnavailable:
    words = str(Reply(exc.code, " ".join(exc.message.split())))
    said = f"the relay answered {conceal(words, address.username, address.password)}"
    if exc.code >= 500:  # to our address, to EHLO or to STARTTLS: it will not have us
        where = address.describe_settings("host", "port", "local_hostname")
        return RelayMisconfigured(f"{said}; check {where}, and whether it knows this machine's address")
    return RelayUnavailable(said)
