"""The sender's settings, read once at the start."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from services.sender.relay_settings import RelaySettings, SmtpRelaySettings, parse_relays
from services.sender.safety_settings import SafetySettings
from shared.consuming import DRAIN_S, NEVER_S, REVOCATION_GRACE_S, WATCHDOG_S
from shared.settings import DatabaseSettings, HealthSettings, HttpSettings, KafkaSettings, ProcessSettings


def _parse_delays(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        delays = tuple(timedelta(seconds=float(part)) for part in value.split(","))
    except (ValueError, OverflowError):
        raise ValueError("write seconds separated by commas: 60,300,900,3600") from None
    if any(delay < timedelta(0) for delay in delays):
        raise ValueError("no delay can be below 0")
    return delays


Delays = Annotated[tuple[timedelta, ...], NoDecode, BeforeValidator(_parse_delays)]


RelayList = Annotated[tuple[RelaySettings, ...], NoDecode, BeforeValidator(parse_relays)]


class ApiSettings(DatabaseSettings, HttpSettings, ProcessSettings):
    """`python -m services.sender api`."""


class WorkerSettings(ProcessSettings, KafkaSettings, DatabaseSettings, HealthSettings, SafetySettings):
    """`python -m services.sender worker`."""

    relays: RelayList = Field(default=(), description="JSON array or the path of a file, the preferred relay first")
    smtp_host: str = "127.0.0.1"
    smtp_port: int = Field(default=2525, ge=1, le=65535)
    smtp_tls: Literal["none", "starttls", "tls"] = "none"
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_verify: bool = Field(default=True, description="verify the relay's certificate")
    smtp_ca_file: str | None = Field(default=None, description="PEM file of the authority that signed it")
    smtp_local_hostname: str = Field(default="localhost", description="what EHLO says")
    smtp_connections: int = Field(default=20, ge=1, le=500, description="of all sender processes together")
    smtp_mails_per_second: float | None = Field(
        default=None, gt=0, le=100_000, description="of all sender processes together"
    )
    smtp_mails_per_connection: int | None = Field(default=None, ge=1, description="then QUIT")
    smtp_command_timeout: float = Field(default=10.0, gt=0, description="seconds, up to the 354")
    smtp_final_dot_timeout: float = Field(default=300.0, gt=0, le=3600, description="seconds, RFC 5321 §4.5.3.2.6")
    smtp_idle_timeout: float = Field(default=30.0, gt=0, description="seconds an unused connection is kept")
    claims_per_connection: int = Field(default=16, ge=1, le=1000)
    lane_limit: int = Field(default=2048, ge=1, le=10_000, description="mails taken from Kafka at once")
    retry_delays: Delays = (
        timedelta(minutes=1),
        timedelta(minutes=5),
        timedelta(minutes=15),
        timedelta(hours=1),
    )
    retry_jitter: float = Field(default=0.2, ge=0, le=1, description="share by which a delay may be longer")
    default_expiry_hours: float = Field(default=72.0, gt=0, le=168)
    expiry_limit_hours: float = Field(default=168, gt=0, description="after release, whatever the event says (P13)")
    message_id_domain: str | None = Field(default=None, pattern=r"^[A-Za-z0-9.-]+$")
    drain_timeout: float = Field(default=DRAIN_S, gt=0, description="seconds given to mail at work at SIGTERM")
    ledger_retention_days: float = Field(
        default=30.0, gt=0, le=36_500, description="settled mails are kept to know a repeat"
    )
    waiting_limit: int = Field(
        default=100_000,
        ge=1,
        description="mails that wait in the database, paused ones left out; then no new one is taken",
    )
    waiting_bytes: int = Field(default=4 * 1024**3, ge=1, description="of their events; whichever is reached first")
    suppress_after_hard_bounce: bool = Field(
        default=False, description="no more mail of the account to an address that a relay has called dead"
    )
    hard_bounce_days: float = Field(default=180, gt=0, le=36_500, description="for so long")
    max_poll_interval: float = Field(
        default=NEVER_S,
        gt=0,
        le=2_000_000,
        description="seconds; lower, and a long pause of sending ends the group membership",
    )
    stalled_after: float = Field(
        default=420.0, gt=0, le=1e9, description="seconds without progress that end the process"
    )
    test_lease: float = Field(default=30.0, gt=0, le=3600, description="seconds of a claim; only tests shorten it")
    scratch_dir: Path = Path("/tmp/milena")  # noqa: S108 - Faust wants a directory and keeps nothing in it

    @model_validator(mode="after")
    def _check_chain(self) -> Self:
        """P12: drain < watchdog; a revocation must end before the group gives us up."""
        if self.drain_timeout >= WATCHDOG_S:
            raise ValueError(f"MILENA_DRAIN_TIMEOUT must be below {WATCHDOG_S:.0f} s, after which the process is ended")
        if self.drain_timeout < REVOCATION_GRACE_S:
            raise ValueError(f"MILENA_DRAIN_TIMEOUT must be at least {REVOCATION_GRACE_S:.0f} s")
        if self.smtp_username and not self.smtp_password:
            raise ValueError("MILENA_SMTP_USERNAME needs MILENA_SMTP_PASSWORD")
        if self.redirect_all_to and self.suppress_after_hard_bounce:
            detail = "what a relay says of the one address says nothing of the recipients"
            raise ValueError(f"MILENA_SUPPRESS_AFTER_HARD_BOUNCE must be off with MILENA_REDIRECT_ALL_TO: {detail}")
        described = sorted(name.upper() for name in self.model_fields_set if name.startswith("smtp_"))
        if self.relays and described:
            first = ", ".join(f"MILENA_{name}" for name in described)
            raise ValueError(f"MILENA_RELAYS describes every relay: remove {first}, or remove MILENA_RELAYS")
        return self

    def list_relays(self) -> tuple[RelaySettings, ...]:
        """The relays by priority: those of MILENA_RELAYS, or the one that MILENA_SMTP_* describe."""
        if self.relays:
            return self.relays
        return (
            SmtpRelaySettings(
                name=f"{self.smtp_host}:{self.smtp_port}",
                host=self.smtp_host,
                port=self.smtp_port,
                tls=self.smtp_tls,
                username=self.smtp_username,
                password=self.smtp_password if self.smtp_username else None,
                verify=self.smtp_verify,
                ca_file=self.smtp_ca_file,
                local_hostname=self.smtp_local_hostname,
                connections=self.smtp_connections,
                mails_per_connection=self.smtp_mails_per_connection,
                mails_per_second=self.smtp_mails_per_second,
                idle_timeout=self.smtp_idle_timeout,
                command_timeout=self.smtp_command_timeout,
                final_dot_timeout=self.smtp_final_dot_timeout,
            ),
        )
