"""What the callback service's processes are told by their environment."""

from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from shared.settings import (
    DatabaseSettings,
    HealthSettings,
    HttpSettings,
    KafkaSettings,
    Networks,
    ProcessSettings,
    SecretSettings,
)

STOP_GRACE_S = 60.0  # the watchdog; requests at work must be able to end before it (P12)


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


_MINUTE, _HOUR = 60, 3600
RetryDelays = Annotated[tuple[Annotated[float, Field(ge=0)], ...], NoDecode, BeforeValidator(_split)]


class ApiSettings(DatabaseSettings, HttpSettings, ProcessSettings):
    """`python -m services.callback api`."""


class WorkerSettings(KafkaSettings, DatabaseSettings, HealthSettings, SecretSettings, ProcessSettings):
    """`python -m services.callback worker`."""

    callback_allowed_networks: Networks = Field(
        default=(), description="loopback and private networks that callbacks may reach all the same"
    )
    callback_timeout_s: float = Field(default=30, gt=0, description="for one request, from name to answer")
    delivery_retention_days: float = Field(
        default=30,
        gt=0,
        description="after its end a delivery's row stays, to know a repeat; above the topics' retention",
    )
    callback_lease_s: float = Field(default=60, description="then a request whose end nobody has seen is made again")
    callback_concurrency: int = Field(default=64, ge=1, le=1000, description="requests at once in this process")
    callback_host_concurrency: int = Field(
        default=16, ge=1, description="of them to one host: one that hangs must not hold up the others"
    )
    callback_retry_delays_s: RetryDelays = Field(
        default=(5, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 24 * _HOUR),
        description="pauses between attempts, separated by commas",
    )

    @property
    def retry_delays(self) -> tuple[timedelta, ...]:
        """The pauses between attempts."""
        return tuple(timedelta(seconds=delay) for delay in self.callback_retry_delays_s)

    @model_validator(mode="after")
    def _check_chain(self) -> Self:
        """The timeout ends a request before its lease ends, and before the process is ended (P12)."""
        if self.callback_lease_s < self.callback_timeout_s + 10:
            raise ValueError("MILENA_CALLBACK_LEASE_S must be at least MILENA_CALLBACK_TIMEOUT_S + 10")
        if self.callback_timeout_s > STOP_GRACE_S - 10:
            raise ValueError(f"MILENA_CALLBACK_TIMEOUT_S must be at most {STOP_GRACE_S - 10:.0f}: a stop waits for it")
        return self
