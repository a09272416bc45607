"""What the environment says about the local stack. Nothing else here reads the environment."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings import HttpSettings, KafkaSecuritySettings, ProcessSettings, TlsSettings

REPOSITORY = Path(__file__).parents[2]
FIRST_RECIPIENT = "you@example.com"  # of the mail that shows a stack works


class CacheSettings(BaseSettings):
    """Where fetched things are kept, and which Java the machine prefers."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    directory: Annotated[Path, Field(validation_alias="MILENA_CACHE_DIR")] = REPOSITORY / ".cache"
    java_home: Annotated[Path | None, Field(validation_alias="JAVA_HOME")] = None


class StackSettings(ProcessSettings, KafkaSecuritySettings, TlsSettings):
    """One local stack. A server that is named here replaces the embedded one."""

    data_dir: Path = REPOSITORY / ".milena"
    port_offset: int = Field(default=0, ge=-1000, le=40000)
    senders: int = Field(default=1, ge=1, le=64)
    kafka_bootstrap_servers: str | None = None
    topic_prefix: str = ""
    topic_mode: Literal["create", "verify"] = "create"
    database_url: SecretStr | None = None
    smtp_host: str | None = None
    smtp_port: int | None = None
    relays: str | None = None  # the senders read it
    from_address: str = "no-reply@example.com"

    @property
    def catches_mail(self) -> bool:
        """Whether mail stays here: no relay of one's own is named."""
        return self.smtp_host is None and not self.relays

    @model_validator(mode="after")
    def _check_kafka(self) -> Self:
        if self.kafka_bootstrap_servers is None and self.kafka_security_protocol != "PLAINTEXT":
            needed = "is for brokers of your own, named in MILENA_KAFKA_BOOTSTRAP_SERVERS"
            raise ValueError(f"MILENA_KAFKA_SECURITY_PROTOCOL: {needed}")
        return self

    @model_validator(mode="after")
    def _make_absolute(self) -> Self:
        # Frozen for everybody else; processes of the stack run in other directories.
        object.__setattr__(self, "data_dir", self.data_dir.expanduser().absolute())
        return self


class FrontSettings(HttpSettings, ProcessSettings):
    """The local origin: where it listens, and where caught mail is shown, if anywhere."""

    mail_url: str | None = None


def read_cache_settings() -> CacheSettings:
    """Read the cache's settings from the environment."""
    return CacheSettings()


def read_environment() -> dict[str, str]:
    """Give the whole environment, for processes that inherit it."""
    return dict(os.environ)
