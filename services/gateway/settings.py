"""Settings of the gateway's processes and commands."""

from pydantic import Field, SecretStr

from shared.settings import (
    DatabaseSettings,
    HealthSettings,
    HttpSettings,
    KafkaSettings,
    LiveSettings,
    ProcessSettings,
)


class ApiSettings(ProcessSettings, KafkaSettings, DatabaseSettings, HttpSettings, LiveSettings):
    """The HTTP process. Where there are several, they need the master secret to take each other's live tickets."""

    master_secret: SecretStr | None = Field(default=None, min_length=32)


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
    """The commands `migrate` and `keys`; with a master secret `keys create` also shows the webhook secret."""

    master_secret: SecretStr | None = None
