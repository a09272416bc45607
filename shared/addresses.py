"""Mailboxes as RFC 5322 writes them: `ann@x.org`, `Ann <ann@x.org>`, lists of them.

Pure: no I/O, no DNS. The name is kept as Unicode; encoding it for a header is the message builder's work.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.policy import default as _email_policy
from functools import lru_cache

from email_validator import EmailNotValidError, validate_email

# The everyday address. email-validator decides about all others (quoted parts, SMTPUTF8, IDNA), at ten times the cost.
_PLAIN = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64})*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_LOCAL_MAX, _ADDRESS_MAX = 64, 254  # octets, RFC 5321 §4.5.3.1
RECIPIENT_LIMIT = 1000  # addresses of one mail (R8); no list is read further
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # C0, C1, and what Unicode calls line ends
# One entry of a list in its everyday forms, and the comma behind it: "Lee, Ann" <a@x.org> · Ann <a@x.org> · a@x.org
# The space before it is possessive: given back and tried again as part of a name, a line of spaces takes hours.
_ENTRY = re.compile(
    r"""\s*+(?:(?:"((?:[^"\\]|\\.)*)"\s*|([^()<>@,;:\\"\[\]]*))<([^<>]+)>|([^\s()<>,:;\\"\[\]]+))\s*(?:,|\Z)"""
)
_ESCAPED = re.compile(r"\\(.)")
_UNUSUAL_MAX, _UNUSUAL_ONE_MAX = 2_000, 400  # characters; the standard library's parser takes time by their square
_NO_LIST = "not an RFC 5322 address list: write a@x.org, Bob <b@y.org>"
_NAME_NEEDS_QUOTES = re.compile(r'[()<>@,;:\\".\[\]]')


class InvalidAddress(ValueError):
    """The text is no mailbox; the message says why, without repeating it."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address with an optional display name (Unicode, no control characters)."""

    address: str
    name: str = ""

    def __str__(self) -> str:
        if not self.name:
            return self.address
        name = self.name
        if _NAME_NEEDS_QUOTES.search(name):
            escaped = name.replace("\\", "\\\\").replace('"', '\\"')
            name = f'"{escaped}"'
        return f"{name} <{self.address}>"

    @property
    def domain(self) -> str:
        """The part behind the last `@`, lower case."""
        return self.address.rpartition("@")[2].lower()


@lru_cache(maxsize=20_000)
def check_address(address: str) -> str:
    """Return the address in the form we keep (domain in ASCII, RFC 5890), or raise InvalidAddress."""
    if _PLAIN.fullmatch(address) and len(address) <= _ADDRESS_MAX and address.index("@") <= _LOCAL_MAX:
        return address
    if len(address) > _LOCAL_MAX + _ADDRESS_MAX:  # email-validator would read a megabyte before it says so
        raise InvalidAddress(f"an address has at most {_ADDRESS_MAX} octets")
    if _CONTROL.search(address):
        raise InvalidAddress("an address must not contain control characters")
    if len(address.rpartition("@")[0].encode()) > _LOCAL_MAX:
        raise InvalidAddress(f"the part before @ is longer than {_LOCAL_MAX} octets")
    try:
        checked = validate_email(
            address, check_deliverability=False, globally_deliverable=False, allow_quoted_local=True
        )
    except EmailNotValidError as exc:
        raise InvalidAddress(f"not an email address: {exc}") from exc
    return f"{checked.local_part}@{checked.ascii_domain}"


def check_name(name: str) -> str:
    """Return the display name, or raise InvalidAddress where it could break out of its header."""
    if _CONTROL.search(name):
        raise InvalidAddress("a name must not contain control characters (CR, LF …)")
    return name.strip()


def parse_mailbox(text: str) -> Mailbox:
    """Read `ann@x.org` or `Ann <ann@x.org>`. Raises InvalidAddress, also for a list of several."""
    if _CONTROL.search(text):  # also at its ends: whoever writes CR or LF into an address is told so
        raise InvalidAddress("an address must not contain control characters (CR, LF …)")
    text = text.strip()
    if "<" not in text and '"' not in text and "," not in text:
        return Mailbox(check_address(text))
    found = _parse(text, _UNUSUAL_ONE_MAX)
    if len(found) != 1:
        raise InvalidAddress("expected one address, found several; give an array or a list field")
    return found[0]


def parse_list(text: str) -> list[Mailbox]:
    """Read an RFC 5322 address list (`a@x.org, "B, C" <b@x.org>`). Raises InvalidAddress."""
    if _CONTROL.search(text):
        raise InvalidAddress("an address list must not contain control characters (CR, LF …)")
    return _parse(text, _UNUSUAL_MAX)


def is_unusual(text: str) -> bool:
    """Whether one mailbox is written in a form that only the standard library's slow parser reads."""
    return ("<" in text or '"' in text or "," in text) and not _ENTRY.fullmatch(text)


def check_effort(texts: Iterable[str]) -> None:
    """Raises InvalidAddress where reading all these mailboxes would take seconds."""
    if sum(len(text) for text in texts if is_unusual(text)) > _UNUSUAL_MAX:
        raise InvalidAddress("too many with comments, groups or quoted local parts; give plain addresses")


def _parse(text: str, unusual_max: int) -> list[Mailbox]:
    found: list[Mailbox] = []
    position = 0
    while entry := _ENTRY.match(text, position):
        if len(found) == RECIPIENT_LIMIT:
            raise InvalidAddress(f"a list may name at most {RECIPIENT_LIMIT} addresses")
        quoted, name, bracketed, bare = entry.groups()
        if quoted is not None:
            name = _ESCAPED.sub(r"\1", quoted)
        found.append(Mailbox(check_address(bare or bracketed.strip()), check_name(name or "")))
        position = entry.end()
        if position == len(text) and not entry[0].endswith(","):
            return found
    if len(text) > unusual_max:
        raise InvalidAddress("too long for comments, groups or quoted local parts; give an array of plain addresses")
    return _parse_unusual(text)


def _parse_unusual(text: str) -> list[Mailbox]:
    """Comments, groups, quoted local parts: the standard library's parser decides.

    getaddresses() guesses where a list is broken (CVE-2023-27043); the header parser records a defect instead.
    """
    try:
        header = _email_policy.header_factory("To", text)
        found = [(each.addr_spec, each.display_name) for each in header.addresses]
    except Exception as exc:  # on some broken lists it raises IndexError, AttributeError and the like
        raise InvalidAddress(_NO_LIST) from exc
    if header.defects or not found:
        raise InvalidAddress(_NO_LIST)
    return [Mailbox(check_address(address), check_name(name or "")) for address, name in found]


def fold_domain(address: str) -> str:
    """The form in which addresses are compared: the domain in lower case, the local part as written (RFC 5321 §2.4)."""
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{domain.lower()}"


def drop_duplicates(mailboxes: Iterable[Mailbox]) -> list[Mailbox]:
    """Each address once, the first mention wins."""
    mailboxes = list(mailboxes)
    if len(mailboxes) < 2:
        return mailboxes
    seen: dict[str, Mailbox] = {}
    for mailbox in mailboxes:
        seen.setdefault(fold_domain(mailbox.address), mailbox)
    return list(seen.values())


@lru_cache(maxsize=4096)
def sender_matches(pattern: str, address: str) -> bool:
    """Whether an allowed sender (`no-reply@x.org`, `*@x.org` or `*`) covers the address; case does not count."""
    pattern, address = pattern.lower(), address.lower()
    if pattern == "*":
        return True
    if pattern.startswith("*@"):
        return address.endswith(pattern[1:]) and address.count("@") == 1
    return pattern == address
