"""A service's own command against a running stack."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from deploy.local.credentials import read_or_mint_master_secret
from deploy.local.errors import StackError
from deploy.local.lock import find_holder
from deploy.local.paths import DataPaths
from deploy.local.record import StackRecord, read_record
from deploy.local.settings import REPOSITORY


def run_command(paths: DataPaths, arguments: Sequence[str], inherited: Mapping[str, str]) -> NoReturn:
    """Become ``python -m <arguments>`` in the environment of the stack. Raises StackError where none is running.

    What stack.json does not tell, such as a topic prefix, is ``inherited``, as it was when the stack was started.
    """
    if find_holder(paths.lock) is None:
        raise StackError(f"no stack is running on {paths.root}: `make start` starts one.")
    environment = describe_environment(read_record(paths.record), read_or_mint_master_secret(paths.credentials))
    os.chdir(REPOSITORY)
    os.execve(sys.executable, [sys.executable, "-m", *arguments], {**inherited, **environment})  # noqa: S606


def describe_environment(record: StackRecord, master_secret: str) -> dict[str, str]:
    """Give the settings by which a command finds everything of a stack."""
    environment = {
        "MILENA_KAFKA_BOOTSTRAP_SERVERS": record.kafka,
        "MILENA_DATABASE_URL": record.database_url,
        "MILENA_BASE_URL": record.base_url,
        "MILENA_MASTER_SECRET": master_secret,
    }
    if record.smtp_host:
        environment |= {"MILENA_SMTP_HOST": record.smtp_host, "MILENA_SMTP_PORT": str(record.smtp_port)}
    return environment
