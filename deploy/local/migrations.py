"""Bring every service's schema up to date."""

import subprocess
import sys
from importlib.util import find_spec

from deploy.local.errors import StackError
from deploy.local.settings import REPOSITORY, read_environment

# The gateway comes first: it also owns the shared schema `access`.
SERVICES = ("gateway", "sender", "scheduler", "callback")


def migrate_all(database_url: str) -> None:
    """Run each service's own ``migrate`` on one database. Raises StackError with what the command said."""
    environment = {**read_environment(), "MILENA_DATABASE_URL": database_url}
    for service in SERVICES:
        if find_spec(f"services.{service}.__main__") is None:
            continue
        done = subprocess.run(
            [sys.executable, "-m", f"services.{service}", "migrate"],
            env=environment,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"the {service}'s migrations failed:\n{done.stdout[-3000:]}")
