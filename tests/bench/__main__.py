"""`python -m tests.bench drain`: how fast one sender empties the topic, and what a mail costs it.

On real Kafka, PostgreSQL (fsync on) and Postfix's smtp-sink, all on this machine. Figures move from machine to
machine: compare ratios within one run.
"""

import asyncio
import json
import platform
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from tests.bench.drain import measure_drain
from tests.bench.sink import run_sink
from tests.bench.wire import measure_wire
from tests.support.servers import RealServers

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Measurements of the product on real parts."""


@app.command()
def drain(
    mails: Annotated[int, typer.Option(help="mails published beforehand")] = 20_000,
    senders: Annotated[int, typer.Option(help="sender processes")] = 1,
    rounds: Annotated[int, typer.Option(help="how often; each round has its own topics and database")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures here, too")] = None,
) -> None:
    """Drain single mails (2 kB multipart, one recipient) from the topic to the sink."""
    servers = RealServers()
    try:
        results = [asyncio.run(measure_drain(servers, mails, senders)) for _ in range(rounds)]
    finally:
        servers.stop()
    print(f"{platform.machine()}, Python {platform.python_version()}, {senders} sender(s), {mails} mails a round")
    for result in results:
        print(result.describe())
    if json_file:
        json_file.write_text(json.dumps([result.as_dict() for result in results], indent=2) + "\n")


@app.command()
def wire(mails: Annotated[int, typer.Option(help="mails each way")] = 20_000) -> None:
    """Compare ways of speaking SMTP to smtp-sink: CPU a mail of the client alone."""
    with run_sink() as port, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for result in runner.run(measure_wire(port, mails)):
            print(result.describe())


@app.command(name="all")
def run_all() -> None:
    """What `make bench` runs."""
    wire()
    drain(senders=1, rounds=3)
    drain(senders=2, rounds=2)


if __name__ == "__main__":
    app()
