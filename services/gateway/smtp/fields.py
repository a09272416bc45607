"""The header of a message that came by SMTP: folded lines, encoded words (RFC 2047), addresses. Pure.

What cannot be carried as it was given is refused (Inexpressible), never sent otherwise.
"""

import binascii
import quopri
import re
from base64 import b64decode
from collections.abc import Iterator
from email.message import Message

from shared.addresses import InvalidAddress, Mailbox, check_name, parse_list

# Milena writes these itself, or they say how the message came here; a signature would not survive being rebuilt.
_DROPPED = frozenset(
    {"sender", "date", "mime-version", "received", "return-path", "dkim-signature", "bcc", "resent-bcc"}
    | {"domainkey-signature", "x-google-dkim-signature", "authentication-results", "apparently-to"}
)
_READ = frozenset({"from", "to", "cc", "reply-to", "subject", "message-id"})
OWN = "x-milena-"
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_WORD = re.compile(r"=\?([A-Za-z0-9_.:+-]+)(?:\*[A-Za-z0-9-]*)?\?([bBqQ])\?([^? ]*)\?=")
_EMPTY_GROUP = re.compile(r'[^:<>"@]*:[\s;]*')
_FIELD_MAX = 256 * 1024  # octets; a thousand recipients with their names are less
_MARK = re.compile("\ue000(\\d+)\ue001")
# What is labelled so is nearly always the larger one (WHATWG Encoding).
_LARGER = {"iso-8859-1": "cp1252", "latin-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030"}


class Inexpressible(Exception):
    """The message cannot be carried as it is; `code` is the enhanced status code (RFC 3463), the text says why."""

    def __init__(self, why: str, code: str = "5.6.0") -> None:
        super().__init__(why)
        self.code = code


class Fields:
    """A message's header fields. Names are compared without case; a field may come once, or always with one value."""

    def __init__(self, message: Message) -> None:
        self._values: dict[str, str] = {}
        self._names: dict[str, str] = {}
        for name, raw in message.raw_items():
            lower = name.lower()
            if lower in _DROPPED or lower.startswith(("content-", "arc-")):
                continue
            value = unfold(name, str(raw))
            if self._values.setdefault(lower, value) != value:
                raise Inexpressible(f"the header {name} is given twice")
            self._names.setdefault(lower, name)

    def read_text(self, name: str) -> str | None:
        """A field's text, decoded; None where there is none."""
        value = self._values.get(name.lower())
        return None if value is None else decode_words(name, value)

    def read_addresses(self, name: str) -> list[Mailbox]:
        """A field's mailboxes; members of groups as all others."""
        value = self._values.get(name.lower(), "")
        if not value or _EMPTY_GROUP.fullmatch(value):  # undisclosed-recipients:;
            return []
        words: list[str] = []

        def hide(match: re.Match[str]) -> str:
            words.append(decode_words(name, match[0]))
            return f"\ue000{len(words) - 1}\ue001"

        # Decoded words may hold commas and quotes that are no part of the list's grammar.
        hidden = _RUN.sub(hide, value.replace("\t", " "))
        try:
            found = parse_list(hidden)
            return [Mailbox(box.address, check_name(_reveal(box.name, words))) for box in found]
        except InvalidAddress as exc:
            raise Inexpressible(f"the header {name}: {exc}") from None

    def list_others(self) -> dict[str, str]:
        """What is passed on: all that is neither read elsewhere nor Milena's own to write."""
        return {
            self._names[lower]: decode_words(self._names[lower], value)
            for lower, value in self._values.items()
            if lower not in _READ and not lower.startswith(OWN)
        }

    def list_own(self) -> set[str]:
        """The names under X-Milena- that are given, lower case, without it."""
        return {lower.removeprefix(OWN) for lower in self._values if lower.startswith(OWN)}


_RUN = re.compile(rf"{_WORD.pattern}(?:\s*{_WORD.pattern})*")


def unfold(name: str, raw: str) -> str:
    """One line. Bytes beyond ASCII are UTF-8 (RFC 6532), or refused."""
    if len(raw) > _FIELD_MAX:
        raise Inexpressible(f"the header {name} is too long")
    try:
        return _FOLD.sub("", raw).strip().encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        raise Inexpressible(f"the header {name} holds bytes that are neither ASCII nor UTF-8") from None


def decode_words(name: str, text: str) -> str:
    """Encoded words as what they stand for; the space between two of them is no part of the text (RFC 2047 §6.2)."""
    if "=?" not in text:
        return text
    return "".join(_decode_runs(name, text))


def decode_text(octets: bytes, charset: str) -> str:
    """Raises UnicodeError, LookupError."""
    larger = _LARGER.get(charset.lower())
    if larger:
        try:
            return octets.decode(larger)
        except UnicodeError:
            pass
    return octets.decode(charset)


def _decode_runs(name: str, text: str) -> Iterator[str]:
    end, charset, octets = 0, "", b""
    for match in _WORD.finditer(text):
        between = text[end : match.start()]
        goes_on = octets != b"" and not between.strip()
        # A character may be split between two words of one charset; it must not be, and is.
        if not goes_on or match[1].lower() != charset:
            yield _decode(name, octets, charset)
            octets = b""
        if not goes_on:
            yield between
        charset, end = match[1].lower(), match.end()
        octets += _decode_word(name, match[2], match[3])
    yield _decode(name, octets, charset)
    yield text[end:]


def _decode_word(name: str, encoding: str, encoded: str) -> bytes:
    if encoding in "qQ":
        return quopri.decodestring(encoded.encode(), header=True)
    try:
        return b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _broken(name) from None


def _decode(name: str, octets: bytes, charset: str) -> str:
    try:
        return decode_text(octets, charset) if octets else ""
    except (UnicodeError, LookupError):
        raise _broken(name) from None


def _broken(name: str) -> Inexpressible:
    return Inexpressible(f"the header {name} has an encoded word that cannot be decoded")


def _reveal(name: str, words: list[str]) -> str:
    return _MARK.sub(lambda match: words[int(match[1])], name)
