"""An API key as a row: what its statements share, and what may be changed of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.access.keys import ApiKey
from shared.settings import Network

COLUMNS = (
    "id::text, account, name, hint, scopes, senders, created_at, revoked_at, networks, test, expires_at, "
    "last_used_at, replaces::text, request_rate, mail_rate"
)
USABLE = "k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())"
"""Of `access.api_keys AS k`."""


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What is to become of a key; None: as it is. `ends`: `expires_at` is meant, be it None.

    `rates`: those of `request_rate` and `mail_rate` that are meant; None: what the settings say.
    """

    name: str | None = None
    scopes: Iterable[str] | None = None
    senders: Iterable[str] | None = None
    networks: Iterable[Network] | None = None
    ends: bool = False
    expires_at: datetime | None = None
    rates: Mapping[str, float | None] = field(default_factory=dict)


def order_scopes(scopes: Iterable[str]) -> list[str]:
    """As they are stored."""
    return sorted({str(scope) for scope in scopes})


def to_key(row: Any) -> ApiKey:
    """From a row with COLUMNS."""
    return ApiKey(
        id=row["id"],
        account=row["account"],
        name=row["name"],
        hint=row["hint"],
        scopes=frozenset(row["scopes"]),
        senders=tuple(row["senders"]),
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
        networks=tuple(row["networks"]),
        test=row["test"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
        replaces=row["replaces"],
        request_rate=row["request_rate"],
        mail_rate=row["mail_rate"],
    )
