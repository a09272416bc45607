"""`make bench`: how fast Milena is, against targets and yardsticks, on real Kafka, PostgreSQL and smtp-sink.

Figures move from machine to machine and from minute to minute: compare ratios within one run (docs/performance.md).
"""

import logging
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import psutil
import structlog
import typer

from deploy.local.settings import read_cache_settings
from tests.bench.machine import describe_machine, describe_versions, read_postgres_version
from tests.bench.report import print_report, write_json
from tests.bench.rounds import Outcome, run_comparisons
from tests.bench.scenarios import Bench, select
from tests.support.servers import RealServers, run_apart

_BUSY = 0.25  # of each core, before anything is measured


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
    outcome = Outcome()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: outcome.interrupt())
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # fresh topics have no leader yet, it says and tries again
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    machine, began = describe_machine(), datetime.now(UTC)
    if psutil.getloadavg()[0] > _BUSY * (psutil.cpu_count() or 1):
        print("This machine is busy: what is measured now will be low, and ratios unsteady.")
    servers = RealServers()
    versions: dict[str, str] = {}
    try:
        versions = describe_versions(run_apart(read_postgres_version(servers.postgres().database_url())))
        run_comparisons(Bench(servers, quick), comparisons, outcome)
    except KeyboardInterrupt:
        print("interrupted: what follows is what was measured before")
    finally:
        servers.stop()
    print_report(machine, versions, comparisons, outcome)
    path = json_file or read_cache_settings().directory / "bench" / "results.json"
    about = {"began_at": began.isoformat(), "quick": quick, "complete": not outcome.interrupted}
    write_json(path, machine, versions, comparisons, outcome, **about)
    raise typer.Exit(130 if outcome.interrupted else 0)


if __name__ == "__main__":
    typer.run(main)
