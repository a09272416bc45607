"""Settings of the gateway's processes and commands."""

from pydantic import SecretStr

from shared.settings import (
    DatabaseSettings,
    HealthSettings,
    HttpSettings,
    KafkaSettings,
    ProcessSettings,
)


class ApiSettings(ProcessSettings, KafkaSettings, DatabaseSettings, HttpSettings):
    """The HTTP process."""


class WorkerSettings(ProcessSettings, KafkaSettings, DatabaseSettings, HealthSettings):
    """The process that keeps the read model."""


class TopicSettings(ProcessSettings, KafkaSettings):
    """The command `topics`."""


class AdminSettings(ProcessSettings, DatabaseSettings):
    """The commands `migrate` and `keys`; with a master secret `keys create` also shows the webhook secret."""

    master_secret: SecretStr | None = None
