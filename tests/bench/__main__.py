"""`make bench`: how fast Milena is, against targets and yardsticks, on real Kafka, PostgreSQL and smtp-sink.

Figures move from machine to machine and from minute to minute: compare ratios within one run (docs/performance.md).
"""

import logging
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import structlog
import typer

from deploy.local.settings import read_cache_settings
from tests.bench.machine import describe_machine, describe_versions, read_postgres_version
from tests.bench.report import print_report, write_json
from tests.bench.rounds import run_comparisons
from tests.bench.scenarios import Bench, select
from tests.support.servers import RealServers, run_apart


def main(
    only: Annotated[str, typer.Option(help="comparisons or scenarios, separated by commas; default: all")] = "",
    quick: Annotated[bool, typer.Option(help="small and once: checks the harness, its figures mean nothing")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="where all figures go, as JSON")] = None,
) -> None:
    """Measure, print a table, write JSON."""
    try:
        comparisons = select([name.strip() for name in only.split(",") if name.strip()])
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--only") from None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # fresh topics have no leader yet, it says and tries again
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    machine, began = describe_machine(), datetime.now(UTC)
    servers = RealServers()
    try:
        versions = describe_versions(run_apart(read_postgres_version(servers.postgres().database_url())))
        outcome = run_comparisons(Bench(servers, quick), comparisons)
    finally:
        servers.stop()
    print_report(machine, versions, comparisons, outcome)
    path = json_file or read_cache_settings().directory / "bench" / "results.json"
    about = {"began_at": began.isoformat(), "quick": quick}
    write_json(path, machine, versions, comparisons, outcome, **about)


def _interrupt(*_: object) -> NoReturn:
    """At once, wherever the bench is: what it has started ends on the way out."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
