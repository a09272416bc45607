"""The settings several services share, as mixins; each process has one frozen class of its own made from them.

Every variable is `MILENA_<FIELD>`. A wrong value ends the start with the variable's name and what it should be;
a secret is never repeated.
"""

import sys
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.failpoints import parse_failpoints

Network = IPv4Network | IPv6Network
LOOPBACK_AND_PRIVATE = "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"


def parse_networks(value: Any) -> Any:
    """`10.0.0.0/8, ::1` → networks. Raises ValueError naming the part that is none."""
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(parse_network(part) for part in parts)


def parse_network(text: str) -> Network:
    """`10.0.0.0/8` or one address → a network. Raises ValueError."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network; write 10.0.0.0/8 or fc00::/7, separated by commas") from None


Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(parse_networks)]


def _check_failpoints(spec: str) -> str:
    parse_failpoints(spec)
    return spec


Failpoints = Annotated[str, AfterValidator(_check_failpoints)]


class EnvironmentSettings(BaseSettings):
    """Read from variables that begin with MILENA_; frozen; the input is never repeated in an error."""

    model_config = SettingsConfigDict(
        env_prefix="MILENA_", frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )


class ProcessSettings(EnvironmentSettings):
    """What every process has: its log, its traces and its slot (stable index among its equals)."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    slot: int = Field(default=0, ge=0, description="stable number of this process among those of its kind")
    traces_endpoint: str = Field(default="", description="an OpenTelemetry collector (OTLP/HTTP); empty: no traces")
    traces_ratio: float = Field(default=1.0, ge=0, le=1, description="of the traces that begin here")
    test_failpoints: Failpoints = Field(default="", description="faults on purpose, never in production")


class KafkaSettings(EnvironmentSettings):
    """Where Kafka is, and how our topics are called there."""

    kafka_bootstrap_servers: str = "127.0.0.1:19092"
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$", max_length=100)] = ""
    topic_mode: Literal["create", "verify"] = "create"
    event_limit: int = Field(default=1024 * 1024, ge=4096, description="bytes of a serialised event, uncompressed")


def _check_database_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("write postgresql://user:password@host:5432/database")
    return url


DatabaseUrl = Annotated[SecretStr, AfterValidator(_check_database_url)]


class DatabaseSettings(EnvironmentSettings):
    """Where PostgreSQL is. The URL holds a password, so it is a secret."""

    database_url: DatabaseUrl = SecretStr("postgresql://milena@127.0.0.1:5432/milena")


class HealthSettings(EnvironmentSettings):
    """The small HTTP server of a worker: /healthz, /readyz, /metrics."""

    health_host: str = "127.0.0.1"
    health_port: int = Field(default=0, ge=0, le=65535, description="0: no health server")
    metrics_allowed_networks: Networks = Field(default=parse_networks(LOOPBACK_AND_PRIVATE), validate_default=False)


class QuotaSettings(EnvironmentSettings):
    """How much a key may ask for that has no rates of its own; 0: no limit."""

    request_rate: float = Field(default=10_000, ge=0, allow_inf_nan=False, description="requests a second of one key")
    mail_rate: float = Field(default=50_000, ge=0, allow_inf_nan=False, description="mails a second of one key")
    rate_window_s: int = Field(default=10, ge=1, le=3600, description="a key may use so many seconds' worth at once")
    api_processes: int = Field(
        default=1, ge=1, description="processes behind one address, each of which gives its part of a rate"
    )


class HttpSettings(QuotaSettings):
    """Who may call an API, how much he may ask for, and where it listens."""

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8000, ge=1, le=65535)
    base_url: str = "http://127.0.0.1:8000"
    allowed_networks: Networks = Field(default=parse_networks(LOOPBACK_AND_PRIVATE), validate_default=False)
    metrics_allowed_networks: Networks = Field(default=parse_networks(LOOPBACK_AND_PRIVATE), validate_default=False)
    trusted_proxies: Networks = ()
    http_requests_in_flight: int = Field(default=2_000, ge=1, description="requests at work at once; beyond: 503")
    http_bytes_in_flight: int = Field(default=64 * 1024 * 1024, ge=1, description="bytes of their bodies; beyond: 503")
    http_receive_timeout_s: float = Field(
        default=20, gt=0, description="for a request to arrive, and a second more for each 16 KiB of it; beyond: 408"
    )


class SecretSettings(EnvironmentSettings):
    """The master secret from which each account's webhook secret is derived."""

    master_secret: SecretStr = Field(min_length=32)


Settings = TypeVar("Settings", bound=BaseSettings)


def load_settings(kind: type[Settings]) -> Settings:
    """Read the settings from the environment, or end the process with one line per wrong variable."""
    try:
        return kind()
    except ValidationError as exc:
        for line in describe_errors(exc):
            print(line, file=sys.stderr)
        raise SystemExit(2) from None


def describe_errors(exc: ValidationError) -> Iterable[str]:
    """One line per wrong setting: the variable and what is wrong with it; never the value."""
    for error in exc.errors(include_url=False, include_input=False, include_context=False):
        name = "_".join(str(part) for part in error["loc"][:1]).upper()
        detail = error["msg"].removeprefix("Value error, ")
        yield f"MILENA_{name}: {detail}" if name else detail
