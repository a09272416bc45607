"""The yardstick django-post_office: batches of 2,500, two processes, on the same PostgreSQL."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.bench.environments import YARDSTICKS, prepare_environment
from tests.bench.figures import Figures
from tests.bench.mails import write_mails
from tests.bench.programs import Running, run_program
from tests.bench.sink import run_counting_sink
from tests.bench.watching import WARM_UP, Stopwatch, wait_count
from tests.support.servers import RealServers

PROCESSES = 2
_APP = YARDSTICKS / "post_office_app.py"
_ENQUEUE_S = 300


async def drain_post_office(servers: RealServers, mails: int) -> Figures:
    """All mails lie in the database before `send_queued_mail -p 2` starts."""
    python = prepare_environment("post_office")
    with run_counting_sink() as sink, _database(servers, sink.port) as env, write_mails(mails) as file:
        run_program([python, _APP, "migrate", "--verbosity", "0"], env, timeout_s=_ENQUEUE_S)
        run_program([python, _APP, "enqueue", file], env, timeout_s=_ENQUEUE_S)
        options = ["--processes", str(PROCESSES), "--lockfile", str(file.parent / "lock")]
        command: list[str | Path] = [python, _APP, "send_queued_mail", *options]
        with Running(command, env) as sending:
            begun = await wait_count(sink.count, int(mails * WARM_UP), "mails at the sink", [sending])
            watch = Stopwatch([sending], begun)
            await wait_count(sink.count, mails, "mails at the sink", [sending])
            return watch.read(mails)


@contextmanager
def _database(servers: RealServers, smtp_port: int) -> Iterator[Mapping[str, str]]:
    name = servers.create_database(migrated=False)
    host = parse_qs(urlsplit(servers.postgres().database_url(name)).query)["host"][0]
    own = {"BENCH_DATABASE": name, "BENCH_DATABASE_HOST": host, "BENCH_SMTP_PORT": str(smtp_port)}
    try:
        yield {**os.environ, **own}
    finally:
        servers.drop_database(name)
