"""Settings of the gateway's processes and commands."""

import ssl
from typing import Self

from pydantic import Field, SecretStr, model_validator

from shared.certificates import load_certificate
from shared.composing.settings import AttachmentSettings
from shared.settings import (
    CallerSettings,
    DatabaseSettings,
    HealthSettings,
    HttpSettings,
    KafkaSettings,
    LiveSettings,
    Networks,
    ProcessSettings,
    QuotaSettings,
    parse_networks,
)


class ApiSettings(ProcessSettings, KafkaSettings, DatabaseSettings, HttpSettings, AttachmentSettings, LiveSettings):
    """The HTTP process.

    With a master secret it shows the account's webhook secret with a new key; where there are several such processes,
    they need it to take each other's live tickets.
    """

    master_secret: SecretStr | None = Field(default=None, min_length=32)
    read_patience_s: float = Field(
        default=2.0, ge=0, le=30, description="how long a request for a mail waits until the read model knows it"
    )
    batch_limit: int = Field(
        default=16 * 1024 * 1024, ge=64 * 1024, description="bytes of the body of a batch; each mail has its own limit"
    )


class WorkerSettings(ProcessSettings, KafkaSettings, DatabaseSettings, HealthSettings):
    """The process that keeps the read model."""

    read_model_retention_days: float = Field(
        default=90, ge=1, description="after the last thing that happened to a mail; above the topics' retention"
    )


class SmtpSettings(
    ProcessSettings, KafkaSettings, DatabaseSettings, HealthSettings, CallerSettings, QuotaSettings, AttachmentSettings
):
    """The process that takes mail by SMTP."""

    smtp_ingest_host: str = "127.0.0.1"
    smtp_ingest_port: int = Field(default=2587, ge=1, le=65535)
    smtp_ingest_hostname: str = Field(default="localhost", pattern=r"^[A-Za-z0-9.-]{1,255}$", description="greets")
    smtp_ingest_tls_cert: str | None = Field(default=None, description="PEM file: the certificate and what signed it")
    smtp_ingest_tls_key: str | None = Field(default=None, description="PEM file of its key, where the other has it not")
    smtp_ingest_open_networks: Networks = Field(
        default=parse_networks("127.0.0.0/8,::1/128"), validate_default=False, description="may log in without TLS"
    )
    smtp_ingest_connections: int = Field(default=200, ge=1, le=10_000)
    smtp_ingest_timeout: float = Field(default=300, ge=1, le=3600, description="seconds for a command, or for DATA")

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if self.smtp_ingest_tls_key and not self.smtp_ingest_tls_cert:
            raise ValueError("MILENA_SMTP_INGEST_TLS_CERT: is needed with MILENA_SMTP_INGEST_TLS_KEY")
        self.load_tls()
        return self

    def load_tls(self) -> ssl.SSLContext | None:
        """For STARTTLS; None where it is not offered. Raises ValueError."""
        if not self.smtp_ingest_tls_cert:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        load_certificate(context, self.smtp_ingest_tls_cert, self.smtp_ingest_tls_key, "MILENA_SMTP_INGEST_")
        return context


class TopicSettings(ProcessSettings, KafkaSettings):
    """The command `topics`."""


class ProvingSettings(ProcessSettings, KafkaSettings, DatabaseSettings):
    """The commands `reconcile` and `rebuild`."""


class AdminSettings(ProcessSettings, DatabaseSettings):
    """The commands `migrate`, `keys` and `accounts`; with a master secret a new key comes with the webhook secret."""

    master_secret: SecretStr | None = None
