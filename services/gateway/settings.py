"""Settings of the gateway's processes and commands."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from services.gateway.attachments import DEFAULT_REFUSED, AttachmentRules, parse_refused
from shared.events.requested import ATTACHMENT_LIMIT
from shared.settings import (
    DatabaseSettings,
    EnvironmentSettings,
    HealthSettings,
    HttpSettings,
    KafkaSettings,
    ProcessSettings,
)


def _check_refused(text: str) -> str:
    parse_refused(text)
    return text


class AttachmentSettings(EnvironmentSettings):
    """What may be attached to a mail that does not come over the topic; sizes in bytes of the decoded files."""

    attachment_count: int = Field(default=100, ge=0, le=ATTACHMENT_LIMIT, description="attachments of a mail")
    attachment_bytes: int = Field(default=10 * 1024 * 1024, ge=1, description="of one")
    attachment_bytes_total: int = Field(default=25 * 1024 * 1024, ge=1, description="of all those of a mail")
    refused_attachments: Annotated[str, AfterValidator(_check_refused)] = Field(
        default=DEFAULT_REFUSED, description="extensions and content types, separated by commas; none: all are taken"
    )

    @property
    def attachment_rules(self) -> AttachmentRules:
        """The rules these settings make."""
        refused = parse_refused(self.refused_attachments)
        return AttachmentRules(self.attachment_count, self.attachment_bytes, self.attachment_bytes_total, refused)


class ApiSettings(ProcessSettings, KafkaSettings, DatabaseSettings, HttpSettings, AttachmentSettings):
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
