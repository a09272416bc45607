"""The settings several services share, as mixins; each process has one frozen class of its own made from them.

Every variable is `MILENA_<FIELD>`. A wrong value ends the start with the variable's name and what it should be;
a secret is never repeated.
"""

import re
import ssl
import sys
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.failpoints import parse_failpoints
from shared.kafka_access import KafkaAccess, Mechanism, Protocol

Network = IPv4Network | IPv6Network
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:[0-9]+)?")
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


def parse_origins(value: Any) -> Any:
    """`https://app.example.com, https://x.example` → origins as browsers write them. Raises ValueError."""
    if not isinstance(value, str):
        return value
    return tuple(_parse_origin(part.strip()) for part in value.split(",") if part.strip())


def _parse_origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text.lower()):
        raise ValueError(f"{text!r} is no origin; write https://app.example.com, separated by commas, without a path")
    return text.lower()


Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_origins)]


def check_tls(cert: Path | None, key: Path | None) -> None:
    """Raises ValueError with the variable's name where the two are no pair that a server can use."""
    if cert is None and key is None:
        return
    if cert is None or key is None:
        given, missing = ("KEY", "CERT") if cert is None else ("CERT", "KEY")
        raise ValueError(f"MILENA_TLS_{missing}: needed with MILENA_TLS_{given}")
    for path, name in ((cert, "CERT"), (key, "KEY")):
        try:
            path.read_bytes()
        except OSError as exc:
            raise ValueError(f"MILENA_TLS_{name}: cannot be read ({exc.strerror})") from None
    try:
        # An empty passphrase: without one OpenSSL would ask at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except ssl.SSLError as exc:
        raise ValueError(_explain_tls(cert, exc)) from None


def _explain_tls(cert: Path, exc: ssl.SSLError) -> str:
    if exc.reason == "KEY_VALUES_MISMATCH":
        return "MILENA_TLS_KEY: is not the key of the certificate in MILENA_TLS_CERT"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cert)
    except ssl.SSLError:
        return "MILENA_TLS_CERT: is no certificate in PEM"
    return "MILENA_TLS_KEY: is no key in PEM without a passphrase"


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


class KafkaSecuritySettings(EnvironmentSettings):
    """Who we say we are to Kafka, and whom we believe."""

    kafka_security_protocol: Protocol = "PLAINTEXT"
    kafka_sasl_mechanism: Mechanism = "SCRAM-SHA-512"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_tls_ca: str | None = Field(default=None, description="PEM file of the authority that signed Kafka's")
    kafka_tls_cert: str | None = Field(default=None, description="PEM file of our own certificate (mutual TLS)")
    kafka_tls_key: str | None = Field(default=None, description="PEM file of its key, where the other has it not")

    @model_validator(mode="after")
    def _check_security(self) -> Self:
        self.reach_kafka("").check()
        return self

    def reach_kafka(self, bootstrap_servers: str) -> KafkaAccess:
        """The access to these brokers."""
        password = self.kafka_sasl_password
        return KafkaAccess(
            bootstrap_servers,
            protocol=self.kafka_security_protocol,
            mechanism=self.kafka_sasl_mechanism,
            username=self.kafka_sasl_username,
            password=password.get_secret_value() if password else None,
            tls_ca=self.kafka_tls_ca,
            tls_cert=self.kafka_tls_cert,
            tls_key=self.kafka_tls_key,
        )


class KafkaSettings(KafkaSecuritySettings):
    """Where Kafka is, and how our topics are called there."""

    kafka_bootstrap_servers: str = "127.0.0.1:19092"
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$", max_length=100)] = ""
    topic_mode: Literal["create", "verify"] = "create"
    event_limit: int = Field(default=1024 * 1024, ge=4096, description="bytes of a serialised event, uncompressed")

    @property
    def kafka(self) -> KafkaAccess:
        """What every client of Kafka is given."""
        return self.reach_kafka(self.kafka_bootstrap_servers)


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


class CallerSettings(EnvironmentSettings):
    """Who may call."""

    allowed_networks: Networks = Field(default=parse_networks(LOOPBACK_AND_PRIVATE), validate_default=False)


class TlsSettings(EnvironmentSettings):
    """With both, an API speaks https and wss itself, and nothing else."""

    tls_cert: Path | None = Field(default=None, description="PEM: the certificate, then those between it and its root")
    tls_key: Path | None = Field(default=None, description="PEM, without a passphrase")

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        check_tls(self.tls_cert, self.tls_key)
        return self

    @property
    def scheme(self) -> str:
        """How callers who come without a proxy begin an address."""
        return "https" if self.tls_cert else "http"


class QuotaSettings(EnvironmentSettings):
    """How much a key may ask for that has no rates of its own; 0: no limit."""

    request_rate: float = Field(default=10_000, ge=0, allow_inf_nan=False, description="requests a second of one key")
    mail_rate: float = Field(default=50_000, ge=0, allow_inf_nan=False, description="mails a second of one key")
    rate_window_s: int = Field(default=10, ge=1, le=3600, description="a key may use so many seconds' worth at once")
    api_processes: int = Field(
        default=1, ge=1, description="processes behind one address, each of which gives its part of a rate"
    )


class HttpSettings(CallerSettings, QuotaSettings, TlsSettings):
    """Where an API listens, whom it believes, and how much it takes."""

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8000, ge=1, le=65535)
    base_url: str = "http://127.0.0.1:8000"
    metrics_allowed_networks: Networks = Field(default=parse_networks(LOOPBACK_AND_PRIVATE), validate_default=False)
    trusted_proxies: Networks = ()
    allowed_origins: Origins = ()
    http_requests_in_flight: int = Field(default=2_000, ge=1, description="requests at work at once; beyond: 503")
    http_bytes_in_flight: int = Field(default=64 * 1024 * 1024, ge=1, description="bytes of their bodies; beyond: 503")
    http_receive_timeout_s: float = Field(
        default=20, gt=0, description="for a request to arrive, and a second more for each 16 KiB of it; beyond: 408"
    )


class SecretSettings(EnvironmentSettings):
    """The master secret from which each account's webhook secret is derived."""

    master_secret: SecretStr = Field(min_length=32)


class LiveSettings(EnvironmentSettings):
    """How much a process gives to live streams."""

    live_streams: int = Field(default=1000, ge=1, description="open in one process")
    live_streams_per_account: int = Field(default=100, ge=1, description="of one account in one process")
    live_history: int = Field(default=100_000, ge=1000, description="records read again for a stream that resumes")


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
