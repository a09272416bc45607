"""The relays as an operator describes them: MILENA_RELAYS, a JSON array or the path of a file that holds one."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError, model_validator

from services.sender.simulator import SIMULATOR

_FILE_LIMIT = 1 << 20
_EXAMPLE = '[{"name": "main", "host": "smtp.example.org", "port": 587, "tls": "starttls"}]'


class _Described(BaseModel):
    """What relays of every kind have. Rates and connections are for all sender processes together."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9._:-]+$", max_length=100)
    connections: int = Field(default=20, ge=1, le=500)
    mails_per_connection: int | None = Field(default=None, ge=1)
    mails_per_second: float | None = Field(default=None, gt=0, le=100_000)
    idle_timeout: float = Field(default=30.0, gt=0)


class SmtpRelaySettings(_Described):
    """A relay that speaks SMTP."""

    kind: Literal["smtp"] = "smtp"
    host: str = Field(min_length=1)
    port: int = Field(default=25, ge=1, le=65535)
    tls: Literal["none", "starttls", "tls"] = "none"
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    verify: bool = True
    ca_file: str | None = None
    local_hostname: str = "localhost"
    command_timeout: float = Field(default=10.0, gt=0)
    final_dot_timeout: float = Field(default=300.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _check_password(self) -> Self:
        if self.password and self.password_file:
            raise ValueError("give password or password_file, not both")
        if self.username and not (self.password or self.password_file):
            raise ValueError("username needs password or password_file")
        if (self.password or self.password_file) and not self.username:
            raise ValueError("a password needs username")
        _read_secret(self.password, self.password_file, "password_file")
        return self

    def read_password(self) -> str | None:
        """In the clear, from the setting or its file."""
        return _read_secret(self.password, self.password_file, "password_file")


class HttpRelaySettings(_Described):
    """A provider's send API."""

    kind: Literal["http"]
    url: str
    token: SecretStr | None = None
    token_file: Path | None = None
    verify: bool = True
    ca_file: str | None = None
    connect_timeout: float = Field(default=5.0, gt=0)
    timeout: float = Field(default=30.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url: write https://api.example.org/v1/send")
        if parts.username or parts.password:
            raise ValueError("url must not hold credentials: give token or token_file")
        if bool(self.token) == bool(self.token_file):
            raise ValueError("give either token or token_file")
        _read_secret(self.token, self.token_file, "token_file")
        return self

    def read_token(self) -> str:
        """In the clear, from the setting or its file."""
        return _read_secret(self.token, self.token_file, "token_file") or ""


RelaySettings = SmtpRelaySettings | HttpRelaySettings
_ONE: TypeAdapter[RelaySettings] = TypeAdapter(
    Annotated[SmtpRelaySettings | HttpRelaySettings, Field(discriminator="kind")]
)


def parse_relays(value: Any) -> Any:
    """Raises ValueError saying which relay is wrong and how; never with a value in it."""
    if not isinstance(value, str):
        return value
    described = _load(value.strip())
    if not isinstance(described, list) or not described:
        raise ValueError(f"write a JSON array of relays, the preferred first: {_EXAMPLE}")
    relays = tuple(_parse_one(each, number) for number, each in enumerate(described, 1))
    names = [each.name for each in relays]
    twice = sorted({name for name in names if names.count(name) > 1})
    if SIMULATOR in names:
        raise ValueError(f"no relay can be called {SIMULATOR}: that is where test mail ends")
    if twice:
        raise ValueError(f"two relays are called {', '.join(twice)}; each needs a name of its own")
    return relays


def _load(text: str) -> Any:
    if not text.startswith(("[", "{")):
        path = Path(text)
        try:
            if path.stat().st_size > _FILE_LIMIT:
                raise ValueError("the file is larger than 1 MiB")
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as exc:
            why = f"the file cannot be read ({type(exc).__name__})"
            raise ValueError(f"{why}; write a JSON array or the path of a file that holds one: {_EXAMPLE}") from None
    try:
        return json.loads(text)
    except ValueError as exc:
        where = f"line {exc.lineno} column {exc.colno}" if isinstance(exc, json.JSONDecodeError) else "somewhere"
        raise ValueError(f"no valid JSON at {where}; write {_EXAMPLE}") from None


def _parse_one(described: Any, number: int) -> RelaySettings:
    if not isinstance(described, dict):
        raise ValueError(f"relay {number}: write an object like {_EXAMPLE[1:-1]}")
    name = described.get("name")
    called = f"relay {number} ({name})" if isinstance(name, str) else f"relay {number}"
    if described.get("kind", "smtp") not in ("smtp", "http"):
        raise ValueError(f"{called}: kind is smtp or http")
    try:
        return _ONE.validate_python({"kind": "smtp", **described})
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False, include_context=False)
        raise ValueError("; ".join(f"{called}: {_describe(error)}" for error in errors)) from None


def _describe(error: Any) -> str:
    field = ".".join(str(part) for part in error["loc"][1:])
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"{field} is no setting of a relay of this kind"
    return f"{field}: {said}" if field else said


def _read_secret(secret: SecretStr | None, file: Path | None, called: str) -> str | None:
    if secret is not None or file is None:
        return secret.get_secret_value() if secret else None
    try:
        return file.read_text().strip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"{called} cannot be read ({type(exc).__name__})") from None
