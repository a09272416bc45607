"""Settings of the gateway's processes and commands."""

from pydantic import Field, SecretStr

from shared.settings import (
    DatabaseSettings,
    HealthSettings,
    HttpSettings,
    KafkaSettings,
    ProcessSettings,
)


class ApiSettings(ProcessSettings, KafkaSettings, DatabaseSettings, HttpSettings):
    """The HTTP process; with a master secret it shows the account's webhook secret with a new key."""

    master_secret: SecretStr | None = None

    batch_limit: int = Field(
        default=16 * 1024 * 1024, ge=64 * 1024, description="bytes of the body of a batch; each mail has its own limit"
    )


class WorkerSettings(ProcessSettings, KafkaSettings, DatabaseSettings, HealthSettings):
    """The process that keeps the read model."""

    read_model_retention_days: float = Field(
        default=90, ge=1, description="after the last thing that happened to a mail; above the topics' retention"
    )


class TopicSettings(ProcessSettings, KafkaSettings):
    """The command `topics`."""


class ProvingSettings(ProcessSettings, KafkaSettings, DatabaseSettings):
    """The commands `reconcile` and `rebuild`."""


class AdminSettings(ProcessSettings, DatabaseSettings):
    """The commands `migrate`, `keys` and `accounts`; with a master secret a new key comes with the webhook secret."""

    master_secret: SecretStr | None = None
