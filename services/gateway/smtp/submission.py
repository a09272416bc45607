"""What is answered to MAIL, RCPT and DATA. 250 only when the broker holds the mail (P1)."""

import asyncio
import re
from typing import Any

import structlog

from services.gateway.accepting import Acceptor
from services.gateway.composing import compose_received
from services.gateway.smtp.fields import Inexpressible
from services.gateway.smtp.message import read_message
from services.gateway.smtp.session import SmtpSession
from shared.access import AccessUnavailable, ApiKey, ApiScope, KeyLookup
from shared.addresses import RECIPIENT_LIMIT, InvalidAddress, check_address
from shared.composing.attachments import AttachmentRules
from shared.composing.composer import SenderNotAllowed, TooLarge, UnacceptableFields
from shared.events import EmailRequested
from shared.metrics import RATE_LIMITED, SMTP_MAILS
from shared.networks import Address
from shared.publisher import EventTooLarge, OutcomeUnknown, PublisherUnavailable
from shared.quotas import MAILS, Quotas

log = structlog.get_logger(__name__)

_LARGE = 64 * 1024  # octets; reading more than that would hold up the other connections
_UNPRINTABLE = re.compile(r"[^ -~]")
_REPLY_MAX = 400  # octets of a reply's text
_CANNOT_CHECK = "454 4.7.0 The API key cannot be checked at the moment; try again"


class Submission:
    """aiosmtpd's hooks. `event_limit`: see Acceptor."""

    def __init__(self, keys: KeyLookup, acceptor: Acceptor, quotas: Quotas, rules: AttachmentRules) -> None:
        self._keys = keys
        self._acceptor = acceptor
        self._quotas = quotas
        self._rules = rules

    async def check_secret(self, secret: str, caller: Address | None) -> ApiKey | str:
        """The key, or the reply where it will not do."""
        try:
            key = await self._keys.find(secret)
        except AccessUnavailable:
            return _CANNOT_CHECK
        if key is None:
            return "535 5.7.8 The password is no valid API key; it may have been revoked, or have expired"
        if not key.may_call_from(caller):
            return "535 5.7.8 This API key is limited to certain networks, and the connection comes from another"
        if ApiScope.EMAILS_SEND not in key.scopes:
            return f"535 5.7.8 The API key lacks the scope {ApiScope.EMAILS_SEND}"
        return key

    async def handle_EHLO(  # noqa: N802 - aiosmtpd names its hooks after the commands
        self, _server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        """Announce PIPELINING as well."""
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", responses[-1]]

    async def handle_MAIL(  # noqa: N802
        self, server: SmtpSession, _session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """The key is looked at for every mail: a connection may last longer than it is valid."""
        key = await self.check_secret(server.secret or "", server.caller)
        if isinstance(key, str):
            return key
        checked = _check(address, envelope.smtp_utf8, "5.1.7")
        if checked.startswith("553 "):
            return checked
        if not key.may_send_from(checked):
            return "550 5.7.1 The API key may not send from the address in MAIL FROM"
        envelope.mail_from = checked
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        """One recipient; beyond the limit the client gives the others in another transaction."""
        if len(envelope.rcpt_tos) >= RECIPIENT_LIMIT:
            return f"452 4.5.3 A mail may have at most {RECIPIENT_LIMIT} recipients"
        checked = _check(address, envelope.smtp_utf8, "5.1.3")
        if checked.startswith("553 "):
            return checked
        if checked not in envelope.rcpt_tos:
            envelope.rcpt_tos.append(checked)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SmtpSession, _session: Any, envelope: Any) -> str:  # noqa: N802
        """The mail itself."""
        key = await self.check_secret(server.secret or "", server.caller)
        reply = key if isinstance(key, str) else await self._take(key, envelope)
        SMTP_MAILS.labels(code=reply[:3]).inc()
        return reply

    async def handle_exception(self, error: Exception) -> str:
        """A bug. What clients say must not come into the log, and an exception's text may repeat it."""
        log.error("smtp command failed", error=type(error).__name__, at=_locate(error))
        return "451 4.3.0 This is our fault; it has been logged"

    async def _take(self, key: ApiKey, envelope: Any) -> str:
        arguments = (envelope.original_content, envelope.mail_from, list(envelope.rcpt_tos))
        try:
            if len(arguments[0]) < _LARGE:
                received = read_message(*arguments)
            else:
                received = await asyncio.to_thread(read_message, *arguments)
            event = compose_received(received.mail, key, received.message_id, self._rules)
        except Inexpressible as exc:
            return _say(f"554 {exc.code}", str(exc))
        except UnacceptableFields as exc:
            return _say("554 5.6.0", str(exc))
        except SenderNotAllowed:
            return "550 5.7.1 The API key may not send from the address in the header From"
        beyond = self._quotas.find(key).take(MAILS)
        if beyond:
            RATE_LIMITED.labels(limit=MAILS).inc()
            return f"451 4.7.1 The API key may have {beyond.rate:g} mails a second; try in {beyond.retry_after_s} s"
        reply = await self._accept(event, received.message_id is not None)
        if reply.startswith("250") and received.left_out:
            reply += f"; {received.left_out} of To and Cc left out, which no RCPT TO named"
        return reply

    async def _accept(self, event: EmailRequested, is_recognised: bool) -> str:
        try:
            await self._acceptor.accept(event, None)
        except TooLarge as exc:
            return f"552 5.3.4 A mail may have at most {exc.limit} bytes as an event; this has {exc.size}"
        except EventTooLarge:
            return "552 5.3.4 The mail is larger than Kafka's topic allows"
        except PublisherUnavailable:
            return "451 4.3.0 Kafka is away; nothing was written, try again"
        except OutcomeUnknown:
            again = "try again" if is_recognised else "and tried again, without a Message-ID, be sent twice"
            return f"451 4.3.0 Kafka has not confirmed in time; it may still be sent as {event.id}, {again}"
        return f"250 2.0.0 queued as {event.id}"


def _check(address: str, smtp_utf8: bool, code: str) -> str:
    """The address in the form we keep, or a reply that begins with 553."""
    try:
        checked = check_address(address)
    except (InvalidAddress, UnicodeError):
        return f"553 {code} This is no address that mail can be sent to"
    if not checked.isascii() and not smtp_utf8:
        return "553 5.6.7 An address beyond ASCII needs SMTPUTF8 in MAIL FROM"
    return checked


def _say(codes: str, why: str) -> str:
    return f"{codes} {_UNPRINTABLE.sub('?', why)[:_REPLY_MAX]}"


def _locate(error: Exception) -> str:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
