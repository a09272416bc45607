"""What the scheduler's processes are told by their environment."""

from pathlib import Path

from pydantic import Field

from services.scheduler.batches.numbering import MOST_ITEMS
from services.scheduler.runs.settings import JobSettings, RunSettings, TaskSettings
from services.scheduler.unsubscribing.settings import LinkSettings, PublicSettings
from shared.composing.settings import AttachmentSettings
from shared.settings import (
    DatabaseSettings,
    EnvironmentSettings,
    HealthSettings,
    HttpSettings,
    KafkaSettings,
    LiveSettings,
    ProcessSettings,
)


class BatchSettings(EnvironmentSettings):
    """How much may be uploaded as a batch."""

    batch_items: int = Field(default=100_000, ge=1, le=MOST_ITEMS, description="mails of a batch")
    batch_bytes: int = Field(default=1024**3, ge=64 * 1024, description="of its upload; each mail has its own limit")
    batch_uploads: int = Field(default=8, ge=1, description="uploads at once in one process; beyond: 503")


class ListSettings(EnvironmentSettings):
    """How much may be uploaded as a list of recipients."""

    list_rows: int = Field(default=2_000_000, ge=1, lt=2**31, description="rows of a list of recipients")
    list_bytes: int = Field(default=1024**3, ge=64 * 1024, description="of its upload")
    list_uploads: int = Field(default=4, ge=1, description="uploads at once in one process; beyond: 503")


class MailingSettings(EnvironmentSettings):
    """How often mailings are looked after."""

    mailing_check_interval: int = Field(
        default=60, ge=1, le=86_400, description="seconds between runs of the tasks of mailings; whole minutes"
    )


class RepeatSettings(EnvironmentSettings):
    """When a mailing's mail gets another turn."""

    mailing_repeat_timeout: float = Field(
        default=600, ge=1, description="seconds without any result, then mail is handed out again; doubled each time"
    )
    mailing_repeat_failed: bool = Field(
        default=False, description="a new round for mail whose transient failures became final, until finish_at"
    )


class ContactSettings(EnvironmentSettings):
    """How much may be imported as contacts."""

    contact_import_bytes: int = Field(default=1024**3, ge=64 * 1024, description="of a file of contacts")
    contact_imports: int = Field(default=3, ge=1, description="imports at once in one process; beyond: 503")


class ApiSettings(
    DatabaseSettings,
    KafkaSettings,
    HttpSettings,
    AttachmentSettings,
    LiveSettings,
    JobSettings,
    BatchSettings,
    ListSettings,
    MailingSettings,
    ContactSettings,
    PublicSettings,
    ProcessSettings,
):
    """`python -m services.scheduler api`.

    With the gateway's master secret it takes the gateway's live tickets, and reads the links to unsubscribe.
    """


class WorkerSettings(KafkaSettings, DatabaseSettings, HealthSettings, TaskSettings, LinkSettings, ProcessSettings):
    """`python -m services.scheduler worker`."""

    default_expiry_hours: float = Field(
        default=72, gt=0, le=168, description="after release, where the event says nothing"
    )
    expiry_limit_hours: float = Field(default=168, gt=0, description="after release, whatever the event says (P13)")
    cancellation_kept_hours: float = Field(default=24, gt=0, description="for a mail that has not been seen yet (R7)")
    delayed_retention_days: float = Field(
        default=30, gt=0, description="after its end a mail's row stays, to know a repeat; above the topic's retention"
    )
    mailing_retention: float = Field(
        default=400, gt=0, description="days after a mailing's end that its recipients are kept; its counts always are"
    )
    release_lease_s: float = Field(default=30, ge=1, description="then a release begun is begun again")


class JobRunnerSettings(KafkaSettings, DatabaseSettings, HealthSettings, RunSettings, RepeatSettings, ProcessSettings):
    """`python -m services.scheduler jobs`."""

    scratch_dir: Path = Path("/tmp/milena")  # noqa: S108 - Faust wants a directory and keeps nothing in it
