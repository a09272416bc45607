"""The gateway's commands, as an operator types them: three as processes, the others in this one, which costs less."""

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from deploy.local.settings import REPOSITORY
from services.gateway import __main__ as commands
from services.gateway import key_commands
from shared.access import AccessStore, derive_webhook_secret, digest_key
from shared.database import Database
from tests.support.services import _clean_environment
from tests.support.stack import MASTER_SECRET

CREATE = ("keys", "create", "--name", "shop", "--sender", "*@example.com", "--json")


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command sets the logs of its process up: this one's are the tests'. Nobody's settings come from outside."""
    for module in (commands, key_commands):
        monkeypatch.setattr(module, "set_up_logs", lambda *_args, **_fields: None)
    for name in [name for name in os.environ if name.startswith("MILENA_")]:
        monkeypatch.delenv(name)


def run(database_url: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.gateway", *arguments],
        env={**_clean_environment(), "MILENA_DATABASE_URL": database_url, **env},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run_here(database_url: str, *arguments: str) -> Result:
    """The same in this process; whatever it ended with, it was no exception that nobody had foreseen."""
    result = CliRunner().invoke(commands.app, arguments, env={"MILENA_DATABASE_URL": database_url})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


async def test_a_key_is_created_listed_and_revoked(database_url: str) -> None:
    options = ("--scope", "emails:send", "--request-rate", "2.5", "--mail-rate", "0")
    done = run(database_url, *CREATE, *options, MILENA_MASTER_SECRET=MASTER_SECRET)
    assert done.returncode == 0, done.stderr
    created: dict[str, Any] = json.loads(done.stdout)
    assert created["key"].startswith("mk_")
    assert created["webhook_secret"] == derive_webhook_secret(MASTER_SECRET, "default")
    assert (created["scopes"], created["senders"]) == (["emails:send"], ["*@example.com"])
    database = Database(database_url)
    found = await AccessStore(database).find_key(digest_key(created["key"]))
    assert found is not None
    assert found.id == created["id"]
    assert (found.request_rate, found.mail_rate) == (created["request_rate"], created["mail_rate"]) == (2.5, 0)
    listed = await asyncio.to_thread(run_here, database_url, "keys", "list")
    assert created["id"] in listed.stdout
    assert created["key"] not in listed.stdout
    revoked = await asyncio.to_thread(run_here, database_url, "keys", "revoke", created["id"])
    assert revoked.exit_code == 0, revoked.stderr
    assert await AccessStore(database).find_key(digest_key(created["key"])) is None
    await database.close()


def test_the_secret_is_stored_nowhere(database_url: str) -> None:
    done = run_here(database_url, *CREATE)
    assert done.exit_code == 0, done.stderr
    created = json.loads(done.stdout)
    assert "webhook_secret" not in created  # without a master secret there is none
    listed = run_here(database_url, "keys", "list", "--json").stdout
    assert created["id"] in listed
    assert created["key"] not in listed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sender", "not an address"], "--sender"),
        (["--sender", "*@example.com", "--account", "nobody"], "'nobody'"),
        (["--sender", "*@example.com", "--scope", "everything"], "everything"),
        (["--sender", "*", "--network", "office"], "--network"),
        (["--sender", "*", "--expires-in", "soon"], "90s"),
        ([], "--sender"),
    ],
)
def test_a_mistake_is_told_in_words(database_url: str, arguments: list[str], said: str) -> None:
    done = run_here(database_url, "keys", "create", "--name", "x", *arguments)
    assert done.exit_code != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_for_tests_that_ends_and_is_bound_gets_a_successor(database_url: str) -> None:
    made = run_here(database_url, *CREATE, "--test", "--expires-in", "90d", "--network", "10.1.2.3/8")
    assert made.exit_code == 0, made.stderr
    first = json.loads(made.stdout)
    assert (first["test"], first["networks"], first["state"]) == (True, ["10.0.0.0/8"], "active")
    rotated = run_here(database_url, "keys", "rotate", first["id"], "--overlap", "0s", "--json")
    assert rotated.exit_code == 0, rotated.stderr
    second = json.loads(rotated.stdout)
    assert (second["replaces"], second["expires_at"], second["test"]) == (first["id"], first["expires_at"], True)
    assert second["key"] != first["key"]
    again = run_here(database_url, "keys", "rotate", first["id"])
    assert (again.exit_code, "has expired" in again.stderr) == (1, True)
    listed = run_here(database_url, "keys", "list").stdout
    assert "expired (test)" in listed
    assert "active (test)" in listed


def test_an_account_is_created_once_and_listed_with_its_keys(database_url: str) -> None:
    assert run_here(database_url, "accounts", "create", "shop").exit_code == 0
    again = run_here(database_url, "accounts", "create", "shop")
    assert (again.exit_code, "already" in again.stderr) == (1, True)
    assert run_here(database_url, "accounts", "create", "no spaces").exit_code == 1
    assert run_here(database_url, *CREATE, "--account", "shop").exit_code == 0
    listed = json.loads(run_here(database_url, "accounts", "list", "--json").stdout)
    assert {each["name"]: each["keys"] for each in listed} == {"default": 0, "shop": 1}


def test_revoking_what_is_not_there_says_so(database_url: str) -> None:
    done = run_here(database_url, "keys", "revoke", "nothing")
    assert done.exit_code == 1
    assert "keys list" in done.stderr


def test_without_postgres_the_command_says_which_variable_to_look_at() -> None:
    done = run("postgresql://nobody@127.0.0.1:1/none", "keys", "list")
    assert done.returncode == 1
    assert "MILENA_DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


async def test_migrating_an_empty_database_twice_makes_both_schemas(empty_database_url: str) -> None:
    done = run(empty_database_url, "migrate")
    assert done.returncode == 0, done.stderr
    again = await asyncio.to_thread(run_here, empty_database_url, "migrate")
    assert again.exit_code == 0, again.stderr
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert [row["name"] for row in await connection.fetch("SELECT name FROM access.accounts")] == ["default"]
        assert await connection.fetch("SELECT 1 FROM gateway.emails") == []
    finally:
        await connection.close()
