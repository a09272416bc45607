"""Trying a relay step by step, for whoever sets it up: what it says, and on failure which setting to change.

Needs neither Kafka nor PostgreSQL. Nothing printed contains the password, in any of the forms it travels in.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aiosmtplib

from services.sender.advice import Name, Step, advise, describe, is_about_tls
from services.sender.connecting import RelayAddress, build_tls_context
from services.sender.http_checking import HttpCheck
from services.sender.relay_building import to_address, to_http_address
from services.sender.relay_settings import HttpRelaySettings
from services.sender.settings import WorkerSettings
from services.sender.smtp_client import SmtpClient, conceal
from services.sender.trial import Envelope, Say, build_content

_ERRORS = (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError, EOFError)


class RelayCheck:
    """One visit to one relay. `name` gives the names of its settings, `envelope` None: nothing is sent."""

    def __init__(
        self,
        address: RelayAddress,
        name: Name,
        say: Say,
        *,
        envelope: Envelope | None,
        final_dot_timeout_s: float = 300.0,
    ) -> None:
        self._address = address
        self._name = name
        self._say = say
        self._envelope = envelope
        self._final_dot_timeout_s = final_dot_timeout_s
        self._socket: socket.socket | None = None
        self._smtp: aiosmtplib.SMTP | None = None
        self._found: list[Any] = []

    async def run(self) -> bool:
        """Take all steps up to the first that fails; says each. Returns whether all went well."""
        self._say(f"{self._address.name} ({self._name('tls')}={self._address.tls})")
        try:
            for step, take in self._list_steps():
                try:
                    self._report(step, await take())
                except _ERRORS as exc:
                    self._report_failure(step, exc)
                    return False
            return True
        finally:
            await self._leave()

    def _list_steps(self) -> list[tuple[Step, Callable[[], Awaitable[str]]]]:
        address = self._address
        steps: list[tuple[Step, Callable[[], Awaitable[str]]]] = [
            (Step.DNS, self._resolve),
            (Step.CONNECT, self._connect),
            (Step.TLS if address.tls == "tls" else Step.GREETING, self._greet),
            (Step.EHLO, self._say_hello),
        ]
        if address.tls == "starttls":
            steps.append((Step.TLS, self._start_tls))
        if address.username is not None:
            steps.append((Step.AUTH, self._log_in))
        if self._envelope:
            steps += [(Step.MAIL, self._send_mail), (Step.RCPT, self._send_rcpt), (Step.CONTENT, self._send_content)]
        return steps

    # --- steps: each returns what is to be shown ---

    async def _resolve(self) -> str:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._address.timeout_s):
            found = await loop.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
        self._found = found
        return f"{self._address.host} is {', '.join(dict.fromkeys(str(each[4][0]) for each in found))}"

    async def _connect(self) -> str:
        failure: Exception = OSError("no address")
        for family, kind, protocol, _, where in self._found:
            attempt = socket.socket(family, kind, protocol)
            attempt.setblocking(False)
            try:
                async with asyncio.timeout(self._address.timeout_s):
                    await asyncio.get_running_loop().sock_connect(attempt, where)
            except (OSError, TimeoutError) as exc:
                attempt.close()
                failure = exc
            else:
                self._socket = attempt
                return f"{where[0]} port {where[1]}"
        raise failure

    async def _greet(self) -> str:
        address = self._address
        self._smtp = SmtpClient(
            hostname=address.host,
            sock=self._socket,
            use_tls=address.tls == "tls",
            start_tls=False,
            tls_context=None if address.tls == "none" else build_tls_context(address),
            local_hostname=address.local_hostname,
            timeout=address.timeout_s,
        )
        response = await self._smtp.connect()
        return self._encryption() + _show(response)

    async def _say_hello(self) -> str:
        smtp = self._get_smtp()
        response = await smtp.ehlo()
        offered = ", ".join(f"{name} {values}".strip().upper() for name, values in smtp.esmtp_extensions.items())
        return f"{response.code} {response.message.partition(chr(10))[0]}; offers {offered or 'nothing'}"

    async def _start_tls(self) -> str:
        smtp = self._get_smtp()
        response = await smtp.starttls()
        await smtp.ehlo()
        return self._encryption() + _show(response)

    async def _log_in(self) -> str:
        address = self._address
        return _show(await self._get_smtp().login(address.username or "", address.password or ""))

    async def _send_mail(self) -> str:
        assert self._envelope
        options = ["SMTPUTF8"] if self._envelope.needs_utf8 else []
        return _show(await self._get_smtp().mail(self._envelope.sender, options=options, encoding="utf-8"))

    async def _send_rcpt(self) -> str:
        assert self._envelope
        return _show(await self._get_smtp().rcpt(self._envelope.recipient, encoding="utf-8"))

    async def _send_content(self) -> str:
        assert self._envelope
        content = build_content(self._envelope, self._address.local_hostname)
        return _show(await self._get_smtp().data(content, timeout=self._final_dot_timeout_s))

    # --- around them ---

    def _get_smtp(self) -> aiosmtplib.SMTP:
        assert self._smtp is not None, "the greeting comes first"
        return self._smtp

    def _encryption(self) -> str:
        smtp = self._get_smtp()
        transport: Any = smtp.transport
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object") if transport else None
        if tls is None:
            return ""
        trust = "certificate verified" if self._address.verify else "certificate NOT verified"
        return f"{tls.version()}, {trust}; "

    def _report(self, step: Step, words: str) -> None:
        self._say(f"  ok    {step:<9} {self._hide(words)}")

    def _report_failure(self, step: Step, exc: Exception) -> None:
        address = self._address
        if step is Step.TLS and address.tls == "tls" and not is_about_tls(exc) and not isinstance(exc, OSError):
            step = Step.GREETING
        self._say(f"  FAIL  {step:<9} {self._hide(describe(exc))}")
        self._say(f"  check {advise(step, exc, self._name, tls=address.tls, username=address.username)}")

    def _hide(self, words: str) -> str:
        return conceal(words, self._address.username, self._address.password)

    async def _leave(self) -> None:
        if self._smtp:
            try:
                async with asyncio.timeout(1):
                    await self._smtp.quit()
            except _ERRORS:
                pass
            self._smtp.close()
        if self._socket:
            self._socket.close()


def _show(response: Any) -> str:
    return f"{response.code} {response.message}".replace("\n", " ")


async def check_relays(settings: WorkerSettings, envelope: Envelope | None, say: Say) -> bool:
    """Try every relay there is; returns whether all of them can be used."""
    good = True
    for described in settings.list_relays():
        if isinstance(described, HttpRelaySettings):
            good &= await HttpCheck(to_http_address(described), say, envelope=envelope).run()
            continue
        address = to_address(described, described.name if settings.relays else None)
        check = RelayCheck(
            address,
            address.describe_settings,
            say,
            envelope=envelope,
            final_dot_timeout_s=described.final_dot_timeout,
        )
        good &= await check.run()
    return good
