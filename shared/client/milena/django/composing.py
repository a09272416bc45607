"""From Django's EmailMessage to the mail the API takes: the same mail, or an error before anything is sent.

Additions of Milena's are taken from the message's attribute `milena`, a dict: tags, metadata, send_at, callback, …
"""

import logging
from collections.abc import Mapping, Sequence
from email.utils import formataddr, getaddresses, parseaddr
from typing import Any

import django
from django.utils.encoding import force_str

from milena.django.attachments import UnsupportedFeature, read_attachment
from milena.django.settings import read_callback
from milena.mail import compose

__all__ = ["UnsupportedFeature", "compose_message"]
log = logging.getLogger("milena.django")

_SAID_ELSEWHERE = frozenset({"from", "to", "cc", "reply-to"})
_MILENAS = frozenset({"date", "message-id"})
_REFUSED = frozenset(
    {"bcc", "sender", "subject", "mime-version", "received", "return-path", "dkim-signature"}
    | {"content-type", "content-transfer-encoding", "content-disposition", "content-id"}
)

if django.VERSION < (6, 0):
    from django.core.mail import BadHeaderError as BadHeader
else:  # what Django itself raises from then on
    BadHeader = ValueError


def compose_message(message: Any) -> dict[str, Any]:
    """The mail of a message. Raises UnsupportedFeature, and ValueError (BadHeaderError) for line breaks in headers."""
    headers = {str(name): force_str(value) for name, value in (message.extra_headers or {}).items()}
    by_name = {name.lower(): value for name, value in headers.items()}
    mail: dict[str, Any] = {
        **_read_sender(message, by_name),
        **_read_recipients(message, by_name),
        "reply_to": by_name.get("reply-to") or _list(message.reply_to) or None,
        "subject": force_str(message.subject),
        **_read_bodies(message),
        "headers": _choose_headers(headers) or None,
        "attachments": [read_attachment(each) for each in message.attachments or ()],
        "callback": read_callback(),
    }
    _refuse_line_breaks(mail, by_name)
    return compose({**mail, **getattr(message, "milena", {})})


def _read_sender(message: Any, headers: Mapping[str, str]) -> dict[str, str]:
    """The From header may say something else than the envelope."""
    sender = force_str(message.from_email)
    shown = headers.get("from")
    if not shown or parseaddr(shown)[1] == parseaddr(sender)[1]:
        return {"from": shown or sender}
    return {"from": shown, "envelope_from": parseaddr(sender)[1]}


def _read_recipients(message: Any, headers: Mapping[str, str]) -> dict[str, list[str]]:
    """A To or Cc header of the caller's says who is shown; who is not, gets a blind copy."""
    found: dict[str, list[str]] = {"bcc": _list(message.bcc)}
    for name in ("to", "cc"):
        meant = _list(getattr(message, name))
        shown = headers.get(name)
        if shown is None:
            found[name] = meant
            continue
        addresses = {parseaddr(each)[1].lower() for each in meant}
        pairs = [pair for pair in getaddresses([shown]) if pair[1]]
        if any(address.lower() not in addresses for _, address in pairs):
            raise UnsupportedFeature(f"the {name.title()} header names somebody who does not get the mail")
        found[name] = [formataddr(pair, "utf-8") if pair[0].isascii() else _write(pair) for pair in pairs]
        in_header = {address.lower() for _, address in pairs}
        found["bcc"] += [each for each in meant if parseaddr(each)[1].lower() not in in_header]
    return {name: each for name, each in found.items() if each}


def _write(pair: tuple[str, str]) -> str:
    name = pair[0].replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}" <{pair[1]}>'


def _list(addresses: Sequence[Any] | None) -> list[str]:
    return [force_str(each) for each in addresses or () if each]


def _read_bodies(message: Any) -> dict[str, str]:
    bodies: dict[str, str] = {}
    subtype = message.content_subtype
    for content, kind in [(message.body, f"text/{subtype}"), *(getattr(message, "alternatives", None) or ())]:
        name = {"text/plain": "text", "text/html": "html"}.get(kind)
        if name is None:
            raise UnsupportedFeature(f"a body can be text/plain or text/html, not {kind}: attach it as a file")
        written = force_str(content or "", errors="surrogateescape").encode("utf-8", "replace").decode()
        if name in bodies and bodies[name] != written:
            raise UnsupportedFeature(f"a mail has one {kind} body")
        if written:
            bodies[name] = written
    return bodies or {"text": ""}


def _choose_headers(headers: Mapping[str, str]) -> dict[str, str]:
    chosen = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower in _REFUSED or lower.startswith("content-"):
            raise UnsupportedFeature(f"the header {name} cannot be set{_HINTS.get(lower, ': Milena writes it')}")
        if lower in _MILENAS:
            log.warning("a header is left out, Milena writes its own", extra={"header": name})
        elif lower not in _SAID_ELSEWHERE:
            chosen[name] = value
    return chosen


_HINTS = {
    "bcc": ': use the argument "bcc"',
    "subject": ': use the argument "subject"',
    "return-path": ': bounces go to "from_email"',
    "sender": ': use "from_email", and a From header for who is shown',
}


def _refuse_line_breaks(mail: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    """As Django does: a header that breaks its line could write others."""
    values = {"subject": mail["subject"], "from": mail["from"], **headers}
    for name in ("to", "cc", "bcc", "reply_to"):
        values |= {f"{name} {number}": each for number, each in enumerate(mail.get(name) or ())}
    for name, value in values.items():
        if "\n" in value or "\r" in value:
            raise BadHeader(f"Header values can't contain newlines (in {name.split()[0]})")
