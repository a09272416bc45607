"""Trying a relay of kind `http`: whether its API can be reached, and what it says of one mail."""

import socket
from uuid import uuid4

import aiohttp

from services.sender.connecting import RelayUnavailable
from services.sender.http_api import HttpAddress, translate, write_request
from services.sender.http_relay import HttpOpening, connect_http
from services.sender.parcel import Parcel
from services.sender.trial import Envelope, Say, build_content

_EXCERPT = 300  # characters of the API's words


class HttpCheck:
    """One visit. `envelope` None: nothing is sent, so the token is not tried."""

    def __init__(self, address: HttpAddress, say: Say, *, envelope: Envelope | None) -> None:
        self._address = address
        self._say = say
        self._envelope = envelope

    async def run(self) -> bool:
        """Reach it, then send; says each step. Returns whether all went well."""
        self._say(f"{self._address.name} ({self._address.url})")
        key = f"check-{uuid4()}"
        try:
            opening = await connect_http(self._address, lambda _: key)
        except RelayUnavailable as exc:
            where = self._address.describe_settings("url", "connect_timeout")
            self._fail("connect", str(exc), where)
            return False
        try:
            self._say("  ok    connect")
            return self._envelope is None or await self._send(opening, self._envelope, key)
        finally:
            await opening.session.close()

    async def _send(self, opening: HttpOpening, envelope: Envelope, key: str) -> bool:
        content = build_content(envelope, socket.gethostname())
        sender, recipients = envelope.sender.encode(), [envelope.recipient.encode()]
        parcel = Parcel(sender, recipients, content, lambda: True, lambda _: None)
        headers = {"Authorization": f"Bearer {self._address.token}", "Content-Type": "application/json"}
        headers["Idempotency-Key"] = key
        try:
            async with opening.session.post(
                self._address.url, data=write_request(parcel), headers=headers, allow_redirects=False
            ) as answer:
                said = " ".join((await answer.text(errors="replace")).split())[:_EXCERPT]
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            self._fail("send", f"{type(exc).__name__}: {exc}", self._address.describe_settings("url", "timeout"))
            return False
        reply, about_mail = translate(answer.status, said.replace(self._address.token, "***"), self._address)
        words = reply.text.partition(" ")[2].partition("; check ")[0]
        if reply.code == 250:
            self._say(f"  ok    send      {words}")
            return True
        field = "url" if reply.code == 530 else "token"
        where = "--from and --to, or ask the provider" if about_mail else self._address.describe_settings(field)
        self._fail("send", words, where)
        return False

    def _fail(self, step: str, words: str, where: str) -> None:
        self._say(f"  FAIL  {step:<9} {words}")
        self._say(f"  check {where}")
