"""All four APIs behind one origin, and requests that schemathesis makes from their OpenAPI document."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.settings import REPOSITORY
from shared.access import ApiScope
from tests.support.gateway import mint
from tests.support.servers import RealServers, run_apart
from tests.support.services import ServiceRunner
from tests.support.stack import Stack


@contextmanager
def serve_all(real_servers: RealServers) -> Iterator[tuple[str, str]]:
    """The APIs on topics and a database of their own; gives their address and a key that may do everything."""
    database, prefix = real_servers.create_database(), real_servers.create_topics()
    stack = Stack(real_servers.bootstrap_servers(), prefix, real_servers.postgres().database_url(database))
    runner = ServiceRunner(stack.env(), preloaded=True)
    try:
        process = runner.start("deploy.local.api", env={"MILENA_READ_PATIENCE_S": "0.05"})
        run_apart(process.wait_ready(60))
        caller = run_apart(mint(stack.database_url, "*@example.com", scopes=list(ApiScope)))
        yield process.url, caller.secret
        assert process.returncode is None
    finally:
        runner.stop_all()
        real_servers.drop_topics(prefix)
        real_servers.drop_database(database)


def run_schemathesis(
    url: str, key: str, scratch: Path, *options: str, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run all checks on every operation; exit code 0 where none failed."""
    return subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "schemathesis.cli",
                "--config-file",
                str(REPOSITORY / "tests" / "schemathesis.toml"),
            ),
            # Live events have no end, nor has a batch or a mailing here, where no worker runs.
            *(
                "run",
                f"{url}/openapi.json",
                "--exclude-path",
                "/v1/events",
                "--exclude-path",
                "/v1/batches/{batch_id}/events",
                "--exclude-path",
                "/v1/mailings/{mailing_id}/events",
                "--header",
                f"Authorization: Bearer {key}",
                "--checks",
                "all",
            ),
            # One worker: before Python 3.12 threads that read syntax trees disturb each other.
            *("--continue-on-failure", "--no-shrink", "--warnings", "off", "--no-color", "--workers", "1", *options),
        ],
        cwd=scratch,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("schemathesis_hooks.py"))},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def summarise(run: subprocess.CompletedProcess[str]) -> str:
    """What a failed run has found, in lines a person can read: a request may take megabytes."""
    return "\n".join(line[:500] for line in run.stdout.splitlines())[-30_000:] + run.stderr
