"""stack.json: where everything of a running stack is, for tools and tests."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.paths import write_private


@dataclass(frozen=True)
class ProcessRecord:
    """One process; ``port`` answers /healthz, /readyz and /metrics."""

    name: str
    pid: int
    port: int


@dataclass(frozen=True)
class StackRecord:
    """The content of stack.json.

    ``mail_url`` and ``mail_dir`` are None where a real relay is used, ``smtp_host`` and ``smtp_port`` where it is in
    MILENA_RELAYS. ``smtp_ingest_port`` takes mail by SMTP.
    """

    base_url: str
    api_key: str
    webhook_secret: str
    kafka: str
    database_url: str
    from_address: str
    smtp_host: str | None
    smtp_port: int | None
    mail_url: str | None
    mail_dir: str | None
    smtp_ingest_port: int | None = None
    processes: tuple[ProcessRecord, ...] = ()


def write_record(path: Path, record: StackRecord) -> None:
    """Write stack.json, readable by its owner only: it holds secrets."""
    write_private(path, json.dumps(asdict(record), indent=2) + "\n")


def write_api_environment(path: Path, record: StackRecord) -> None:
    """Write `base_url` and `api_key` as an environment that API tools import (Postman's format, which others read)."""
    values = [
        {"key": "base_url", "value": record.base_url, "type": "default", "enabled": True},
        {"key": "api_key", "value": record.api_key, "type": "secret", "enabled": True},
    ]
    environment = {"name": "Milena, local", "values": values, "_postman_variable_scope": "environment"}
    write_private(path, json.dumps(environment, indent=2) + "\n")


def read_record(path: Path) -> StackRecord:
    """Read stack.json. Raises StackError where there is none."""
    try:
        content: Mapping[str, object] = json.loads(path.read_text())
    except FileNotFoundError:
        raise StackError(f"no stack has been started on {path.parent}: `make up` starts one.") from None
    processes = tuple(ProcessRecord(**process) for process in content["processes"])  # type: ignore[attr-defined]
    return StackRecord(**{**content, "processes": processes})  # type: ignore[arg-type]
