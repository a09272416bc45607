"""What both clients tell httpx: how to write a request, how to read an answer."""

from typing import Any

import httpx

from milena.calls import Answer, Call, Lost
from milena.configuration import Configuration, find_configuration
from milena.events import SILENCE_S
from milena.retrying import Patience
from milena.version import VERSION

_SLOW_S = 1800.0  # a million rows are read and stored before the server answers


class Caller:
    """What both clients are: an address, a key, and patience."""

    def __init__(self, url: str | None, api_key: str | None, timeout_s: float, patience: Patience | float) -> None:
        self._configuration = find_configuration(url, api_key)
        self._timeout_s = timeout_s
        self._patience = patience if isinstance(patience, Patience) else Patience(patience)

    @property
    def url(self) -> str:
        """The address that is called."""
        return self._configuration.url

    @property
    def from_address(self) -> str | None:
        """What the key of a local stack may send from."""
        return self._configuration.from_address

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


def describe_connection(configuration: Configuration, timeout_s: float) -> dict[str, Any]:
    """Arguments of httpx's clients. Redirects are not followed: the key is for this address alone."""
    headers = {"authorization": f"Bearer {configuration.api_key}", "user-agent": f"milena-python/{VERSION}"}
    return {"base_url": configuration.url, "headers": headers, "timeout": timeout_s, "follow_redirects": False}


def describe_request(call: Call) -> dict[str, Any]:
    """Arguments of httpx's `request` and `stream`."""
    return {
        "method": call.method,
        "url": call.path,
        "params": dict(call.params),
        "headers": dict(call.headers),
        "content": call.body,
        **({"timeout": httpx.Timeout(_SLOW_S)} if call.is_slow else {}),
    }


def describe_stream(call: Call, timeout_s: float) -> dict[str, Any]:
    """The same for a request whose answer goes on for as long as somebody listens."""
    return {**describe_request(call), "timeout": httpx.Timeout(timeout_s, read=SILENCE_S)}


def read_answer(response: httpx.Response) -> Answer:
    """The answer as the rest of the client knows it; its body must have been read."""
    return Answer(response.status_code, dict(response.headers), response.content)


def read_loss(exc: httpx.TransportError) -> Lost:
    """What happened; the words of httpx name addresses of hosts at most."""
    return Lost(f"{type(exc).__name__}: {exc}".strip(": "))
