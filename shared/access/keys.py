"""API keys: 256 random bits, shown once, stored as their SHA-256. Pure."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from shared.addresses import check_address, sender_matches
from shared.settings import Network, parse_network

_PREFIX = "mk_"  # lets secret scanners, and people, see what it is
_FORM = re.compile(r"mk_[A-Za-z0-9_-]{43}")


FASTEST = 1e9
"""The highest rate a key may have, a second; 0 says that there is no limit."""


class ApiScope(StrEnum):
    """What a key may do."""

    EMAILS_SEND = "emails:send"
    EMAILS_READ = "emails:read"
    TASKS_ADMIN = "tasks:admin"
    MAILINGS_ADMIN = "mailings:admin"
    WEBHOOKS_ADMIN = "webhooks:admin"
    KEYS_ADMIN = "keys:admin"
    OPERATE = "operate"


APPLICATION_SCOPES = tuple(scope for scope in ApiScope if scope not in {ApiScope.KEYS_ADMIN, ApiScope.OPERATE})
"""What an application needs. Minting keys and operating the service are for keys that name those scopes."""


class KeyState(StrEnum):
    """Whether a key still works."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is known afterwards: everything but the secret. `hint` are its first characters.

    `networks`: from where it may be used; empty: from wherever the service may be called. `test`: its mail is
    simulated. `replaces`: the key it came from by rotation. `request_rate`, `mail_rate`: how many a second; 0 for no
    limit, None for what the settings say.
    """

    id: str
    account: str
    name: str
    hint: str
    scopes: frozenset[str]
    senders: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None = None
    networks: tuple[Network, ...] = ()
    test: bool = False
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    replaces: str | None = None
    request_rate: float | None = None
    mail_rate: float | None = None

    def find_state(self, now: datetime) -> KeyState:
        """Whether it works at that time."""
        if self.revoked_at:
            return KeyState.REVOKED
        return KeyState.EXPIRED if self.expires_at and self.expires_at <= now else KeyState.ACTIVE

    def may_call_from(self, caller: IPv4Address | IPv6Address | None) -> bool:
        """Whether it may be used from an address; IPv4-mapped ones are given as IPv4. None: nobody knows which."""
        return not self.networks or (caller is not None and any(caller in each for each in self.networks))

    def may_send_from(self, address: str) -> bool:
        """Whether one of the allowed senders covers the address."""
        return any(sender_matches(pattern, address) for pattern in self.senders)

    @property
    def only_sender(self) -> str | None:
        """The sender where the key has exactly one and it is a plain address."""
        if len(self.senders) == 1 and "*" not in self.senders[0]:
            return self.senders[0]
        return None


def mint_key() -> str:
    """A fresh secret."""
    return _PREFIX + secrets.token_urlsafe(32)


def has_key_form(secret: str) -> bool:
    """Whether it could be a key at all; what could not is refused without a look-up."""
    return _FORM.fullmatch(secret) is not None


def digest_key(secret: str) -> bytes:
    """What is stored of a key. A plain hash is enough: nobody can try 2^256 secrets."""
    return hashlib.sha256(secret.encode()).digest()


def hint_of(secret: str) -> str:
    """The beginning of a key, by which its owner recognises it."""
    return f"{secret[: len(_PREFIX) + 4]}…"


def check_sender(pattern: str) -> str:
    """An allowed sender: an address, `*@domain`, or `*` for any. Raises ValueError."""
    pattern = pattern.strip()
    if pattern == "*":
        return pattern
    if pattern.startswith("*@"):
        return "*" + check_address(f"x{pattern[1:]}")[1:]
    return check_address(pattern)


def check_network(text: str) -> Network:
    """An allowed network, or one address; IPv4-mapped ones become IPv4, as callers do. Raises ValueError."""
    network = parse_network(text.strip())
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return IPv4Network((mapped, network.prefixlen - 96)) if mapped and network.prefixlen >= 96 else network
