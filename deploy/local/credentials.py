"""The secrets of a stack, minted at its first start and kept in its data directory."""

import hashlib
import json
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.paths import write_private
from deploy.local.settings import REPOSITORY

_KEY_NAME = "development"


@dataclass(frozen=True)
class ApiKey:
    """The development key, and the webhook secret of its account."""

    api_key: str
    webhook_secret: str


def read_or_mint_master_secret(path: Path) -> str:
    """Give the master secret that is kept in ``path``, minting it the first time."""
    kept = _read(path)
    if "master_secret" not in kept:
        kept["master_secret"] = secrets.token_urlsafe(48)
        write_private(path, json.dumps(kept, indent=2) + "\n")
    return kept["master_secret"]


def read_or_mint_api_key(path: Path, environment: Mapping[str, str], from_address: str) -> ApiKey:
    """Give the development key that is kept in ``path``, minting it the first time for this database.

    It may send from every address of ``from_address``'s domain. A key belongs to the database it was
    minted in, so another database gets another one. Raises StackError with what the command said.
    """
    kept = _read(path)
    database = hashlib.sha256(environment["MILENA_DATABASE_URL"].encode()).hexdigest()
    if kept.get("database") == database and {"api_key", "webhook_secret"} <= kept.keys():
        return ApiKey(kept["api_key"], kept["webhook_secret"])
    key = _mint(environment, f"*@{from_address.rpartition('@')[2]}")
    write_private(path, json.dumps({**kept, **asdict(key), "database": database}, indent=2) + "\n")
    return key


def _mint(environment: Mapping[str, str], sender: str) -> ApiKey:
    command = [
        sys.executable,
        "-m",
        "services.gateway",
        "keys",
        "create",
        "--name",
        _KEY_NAME,
        "--sender",
        sender,
    ]
    done = subprocess.run(
        [*command, "--json"],
        env=dict(environment),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StackError(f"the development key could not be minted:\n{(done.stdout + done.stderr)[-2000:]}")
    minted = json.loads(done.stdout)
    return ApiKey(minted["key"], minted["webhook_secret"])


def _read(path: Path) -> dict[str, str]:
    try:
        kept: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return kept
