"""aiosmtplib's client, for as long as a connection is being made: what a relay says as it ends one is not lost."""

import base64
from typing import Literal

import aiosmtplib
from aiosmtplib.typing import Default

_CLOSING = 421


class SmtpClient(aiosmtplib.SMTP):
    """Raises SMTPResponseException with the relay's 421 where a command comes after it.

    The library closes the connection at a 421, and AUTH then tries its next method: all that it tells is that the
    server is not connected.
    """

    _farewell: aiosmtplib.SMTPResponse | None = None

    async def execute_command(
        self, *args: bytes, timeout: float | Literal[Default.token] | None = Default.token
    ) -> aiosmtplib.SMTPResponse:
        """As the library's, but for what is said after a 421."""
        if self._farewell:
            raise aiosmtplib.SMTPResponseException(self._farewell.code, self._farewell.message)
        response = await super().execute_command(*args, timeout=timeout)
        if response.code == _CLOSING:
            self._farewell = response
        return response


def conceal(words: str, username: str | None, password: str | None) -> str:
    """A relay may repeat what it was told: without the password, in whatever form AUTH has carried it."""
    if not password:
        return words
    plain = f"\0{username or ''}\0{password}"
    for secret in (plain, password):
        encoded = base64.b64encode(secret.encode()).decode()
        words = words.replace(encoded, "***").replace(encoded.rstrip("="), "***").replace(secret, "***")
    return words
