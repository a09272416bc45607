"""Bring every service's schema up to date."""

import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

from deploy.local.errors import StackError
from deploy.local.settings import REPOSITORY, read_environment

# All at once: a lock in the database puts them in a row. The gateway also owns the shared schema `access`.
SERVICES = ("gateway", "sender", "scheduler", "callback")


def migrate_all(database_url: str) -> None:
    """Run each service's own ``migrate`` on one database. Raises StackError with what the command said."""
    environment = {**read_environment(), "MILENA_DATABASE_URL": database_url}
    present = [service for service in SERVICES if find_spec(f"services.{service}.__main__") is not None]
    with ThreadPoolExecutor(len(SERVICES)) as threads:
        for failure in threads.map(lambda service: _migrate(service, environment), present):
            if failure is not None:
                raise StackError(failure)


def _migrate(service: str, environment: Mapping[str, str]) -> str | None:
    done = subprocess.run(
        [sys.executable, "-m", f"services.{service}", "migrate"],
        env=dict(environment),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else f"the {service}'s migrations failed:\n{done.stdout[-3000:]}"
