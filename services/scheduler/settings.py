"""What the scheduler's processes are told by their environment."""

from pathlib import Path

from pydantic import Field

from services.scheduler.job_settings import JobSettings, RunSettings, TaskSettings
from shared.settings import DatabaseSettings, HealthSettings, HttpSettings, KafkaSettings, ProcessSettings


class ApiSettings(DatabaseSettings, HttpSettings, JobSettings, ProcessSettings):
    """`python -m services.scheduler api`."""


class WorkerSettings(KafkaSettings, DatabaseSettings, HealthSettings, TaskSettings, ProcessSettings):
    """`python -m services.scheduler worker`."""

    default_expiry_hours: float = Field(
        default=72, gt=0, le=168, description="after release, where the event says nothing"
    )
    expiry_limit_hours: float = Field(default=168, gt=0, description="after release, whatever the event says (P13)")
    cancellation_kept_hours: float = Field(default=24, gt=0, description="for a mail that has not been seen yet (R7)")
    delayed_retention_days: float = Field(
        default=30, gt=0, description="after its end a mail's row stays, to know a repeat; above the topic's retention"
    )
    release_lease_s: float = Field(default=30, ge=1, description="then a release begun is begun again")


class JobRunnerSettings(KafkaSettings, DatabaseSettings, HealthSettings, RunSettings, ProcessSettings):
    """`python -m services.scheduler jobs`."""

    scratch_dir: Path = Path("/tmp/milena")  # noqa: S108 - Faust wants a directory and keeps nothing in it
