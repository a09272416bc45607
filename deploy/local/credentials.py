"""The secrets of a stack, minted at its first start and kept in its data directory."""

import asyncio
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


async def read_or_mint_api_key(path: Path, environment: Mapping[str, str], from_address: str) -> ApiKey:
    """Give the development key that is kept in ``path``, minting one where the database knows none that will do.

    It may send from every address of ``from_address``'s domain, and do everything else there is to do. Raises
    StackError with what the command said.
    """
    kept = _read(path)
    if {"api_key", "webhook_secret"} <= kept.keys() and await _will_do(environment, kept["api_key"], from_address):
        return ApiKey(kept["api_key"], kept["webhook_secret"])
    key = await asyncio.to_thread(_mint, environment, f"*@{from_address.rpartition('@')[2]}")
    write_private(path, json.dumps({**kept, **asdict(key)}, indent=2) + "\n")
    return key


async def _will_do(environment: Mapping[str, str], api_key: str, from_address: str) -> bool:
    from shared.access import AccessStore, digest_key  # only at a start: `run` reads a secret, no database
    from shared.database import Database, DatabaseUnavailable

    database = Database(environment["MILENA_DATABASE_URL"], pool_size=1)
    try:
        key = await AccessStore(database).find_key(digest_key(api_key))
        return key is not None and key.may_send_from(from_address)
    except DatabaseUnavailable as exc:
        raise StackError(f"PostgreSQL went away during the start ({exc}).") from exc
    finally:
        await database.close()


def _mint(environment: Mapping[str, str], sender: str) -> ApiKey:
    from shared.access import ApiScope

    command = [sys.executable, "-m", "services.gateway", "keys", "create", "--json", "--name", _KEY_NAME]
    command += ["--sender", sender, *(f"--scope={scope}" for scope in ApiScope)]
    done = subprocess.run(command, env=dict(environment), cwd=REPOSITORY, capture_output=True, text=True, check=False)
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
