"""What the routes of API keys take and answer: the models of their JSON."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from shared.access import ApiKey, ApiScope, KeyState
from shared.access.keys import FASTEST, check_network, check_sender
from shared.events.wire import Instant
from shared.settings import Network

MANY = 100  # senders, or networks, of one key
_ID = "01a2b3c4-d5e6-7f80-9a1b-2c3d4e5f6071"
_EXAMPLE: dict[str, Any] = {
    "id": _ID,
    "name": "shop",
    "account": "default",
    "hint": "mk_Ab3d…",
    "state": "active",
    "scopes": ["emails:read", "emails:send"],
    "senders": ["*@shop.example.com"],
    "networks": ["10.20.0.0/16"],
    "test": False,
    "created_at": "2030-01-31T09:00:00Z",
    "expires_at": "2030-12-31T00:00:00Z",
    "last_used_at": "2030-02-01T12:30:00Z",
    "mail_rate": 200,
}
_SECRETS = {"key": "mk_Ab3d…", "webhook_secret": "whsec_…"}


def _check_name(text: str) -> str:
    if not text.isprintable():
        raise ValueError("may hold printable characters only")
    return text


def _read_network(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("write a network as 10.0.0.0/8 or fc00::/7, or one address")
    return check_network(value)


Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(_check_name)
]
Sender = Annotated[str, StringConstraints(max_length=400), AfterValidator(check_sender)]
NetworkText = Annotated[
    Network, BeforeValidator(_read_network), WithJsonSchema({"type": "string", "examples": ["10.20.0.0/16"]})
]
Scopes = Annotated[list[ApiScope], Field(min_length=1, max_length=len(ApiScope))]
Senders = Annotated[list[Sender], Field(max_length=MANY)]
NetworkList = Annotated[list[NetworkText], Field(max_length=MANY)]
Rate = Annotated[float, Field(ge=0, le=FASTEST, allow_inf_nan=False)]


class NewKey(BaseModel):
    """A key to be made. What is left out is as with the key that asks."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(description="what the key is for", examples=["shop"])
    scopes: Scopes
    senders: Senders | None = Field(
        default=None, description="addresses, `*@domain`, or `*` for any", examples=[["*@shop.example.com"]]
    )
    networks: NetworkList | None = Field(
        default=None, description="from where it may be used; empty: from wherever the service may be called"
    )
    test: bool | None = Field(default=None, description="mail of a test key is simulated, never transmitted")
    expires_at: Instant | None = None
    request_rate: Rate | None = Field(default=None, description="requests a second; 0: no limit, null: the usual rate")
    mail_rate: Rate | None = Field(default=None, description="mails a second; 0: no limit, null: the usual rate")


class KeyChanges(BaseModel):
    """What is to change of a key; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    scopes: Scopes | None = None
    senders: Senders | None = None
    networks: NetworkList | None = Field(default=None, description="empty: no limit any more")
    expires_at: Instant | None = Field(default=None, description="null: no end any more")
    request_rate: Rate | None = Field(default=None, description="requests a second; 0: no limit, null: the usual rate")
    mail_rate: Rate | None = Field(default=None, description="mails a second; 0: no limit, null: the usual rate")


class Rotation(BaseModel):
    """How a key gets its successor."""

    model_config = ConfigDict(extra="forbid")

    overlap: int = Field(default=3600, ge=0, le=30 * 86400, description="seconds for which the old secret still works")
    expires_at: Instant | None = Field(default=None, description="the new key's end; left out: the old one's")


class Key(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: UUID
    name: str
    account: str
    hint: str = Field(description="the first characters of the secret")
    state: KeyState
    scopes: list[str]
    senders: list[str]
    networks: list[str]
    test: bool
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = Field(default=None, description="written with a delay of up to half a minute")
    replaces: UUID | None = Field(default=None, description="the key it took over from by rotation")
    request_rate: float | None = Field(
        default=None, description="requests a second; 0: no limit; not there: the usual rate"
    )
    mail_rate: float | None = Field(default=None, description="mails a second, likewise")

    @classmethod
    def describe(cls, key: ApiKey, now: datetime) -> Self:
        """A key as it is shown at that time."""
        return cls(**_describe(key, now))


class MintedKey(Key):
    """A key with its secret, which is shown this once."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_SECRETS, **_EXAMPLE}]})

    key: str = Field(description="the secret; it cannot be shown again")
    webhook_secret: str | None = Field(default=None, description="signs the account's callbacks and webhooks")

    @classmethod
    def reveal(cls, secret: str, webhook_secret: str | None, key: ApiKey, now: datetime) -> Self:
        """A key that has just been minted."""
        return cls(key=secret, webhook_secret=webhook_secret, **_describe(key, now))


class KeyPage(BaseModel):
    """Keys of the account, newest first; `next` where there may be more."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"data": [_EXAMPLE]}]})

    data: list[Key]
    next: str | None = Field(default=None, description="`after` of the next request")


def _describe(key: ApiKey, now: datetime) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "account": key.account,
        "hint": key.hint,
        "state": key.find_state(now),
        "scopes": sorted(key.scopes),
        "senders": list(key.senders),
        "networks": [str(each) for each in key.networks],
        "test": key.test,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "replaces": key.replaces,
        "request_rate": key.request_rate,
        "mail_rate": key.mail_rate,
    }
