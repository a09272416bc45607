"""`python -m services.sender api|worker|migrate|check|skip|release|unknown`.

A command loads what only it needs: the worker is there half a second sooner without FastAPI.
"""

import asyncio
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop
from aiokafka.errors import KafkaError

from services.sender.settings import ApiSettings, WorkerSettings
from services.sender.store import Verdict
from services.sender.tables import SCHEMA
from services.sender.unknown_commands import app as unknown_app
from services.sender.worker import SenderWorker, create_worker
from shared.consuming import run_faust
from shared.database import DatabaseUnavailable
from shared.failpoints import arm_failpoints
from shared.logs import set_up_logs
from shared.settings import DatabaseSettings, ProcessSettings, load_settings
from shared.telemetry import set_up_telemetry
from shared.topics import Topics, find_cluster_id

log = structlog.get_logger(__name__)
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(unknown_app, name="unknown")


class MigrateSettings(ProcessSettings, DatabaseSettings):
    """Only the database."""


class DecisionSettings(ProcessSettings, DatabaseSettings):
    """The database, and how the topics are called."""

    topic_prefix: str = ""


@app.command()
def worker() -> None:
    """Send mail from email.requested until stopped."""
    settings = load_settings(WorkerSettings)
    set_up_telemetry(settings, service=f"sender-{settings.slot}")
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # Faust's consumer thread makes a loop of its own
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        cluster_id = loop.run_until_complete(find_cluster_id(settings.kafka))
    except (KafkaError, OSError) as exc:
        why = loop.run_until_complete(settings.kafka.explain_absence()).why
        log.error("kafka unreachable, ending for the supervisor to try again", error=type(exc).__name__, why=why)
        raise typer.Exit(1) from None

    async def build() -> SenderWorker:
        return create_worker(settings, cluster_id)

    built = loop.run_until_complete(build())
    _arm(settings.test_failpoints, built)
    run_faust(built.app, built.parts, built.lane, built.options, built.is_paused, loop)


def _arm(failpoints: str, built: SenderWorker) -> None:
    try:
        arm_failpoints(failpoints, built.pipeline.points)
    except ValueError as exc:
        typer.echo(f"MILENA_TEST_FAILPOINTS: {exc}", err=True)
        raise typer.Exit(2) from None


@app.command()
def api() -> None:
    """Serve /v1/sending, /v1/unknown, /v1/suppressions and /v1/relays."""
    from services.sender.api import create_api
    from shared.serving import serve

    settings = load_settings(ApiSettings)
    set_up_telemetry(settings, service="sender-api", slot=settings.slot)
    serve(create_api(settings), settings)


@app.command()
def migrate() -> None:
    """Bring the schema `sender` to its newest version."""
    from shared.migrations import migrate as migrate_schema

    settings = load_settings(MigrateSettings)
    set_up_logs(settings.log_level, settings.log_format, service="sender-migrate")
    url = settings.database_url.get_secret_value()
    asyncio.run(migrate_schema(url, SCHEMA, Path(__file__).parent / "migrations"))


@app.command()
def check(
    to: Annotated[str | None, typer.Option("--to", help="who gets the mail that is sent to try it")] = None,
    sender: Annotated[str | None, typer.Option("--from", help="its sender; absent: the recipient")] = None,
    no_send: Annotated[bool, typer.Option("--no-send", help="stop before a mail is sent")] = False,
) -> None:
    """Try every relay step by step: what it says, and on failure which setting to change. No Kafka, no PostgreSQL."""
    from services.sender.checking import check_relays
    from services.sender.trial import address_trial

    settings = load_settings(WorkerSettings)
    try:
        envelope = None if no_send else address_trial(to, sender, settings.safety)
    except ValueError as exc:
        typer.echo(str(exc), err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(0 if asyncio.run(check_relays(settings, envelope, typer.echo)) else 1)


PartitionOption = Annotated[int | None, typer.Option("--partition", help="of email.requested", min=0)]
OffsetOption = Annotated[int | None, typer.Option("--offset", help="of the record in it", min=0)]


@app.command()
def skip(partition: PartitionOption = None, offset: OffsetOption = None) -> None:
    """List the records that have ended processes, or give one up: it is answered with invalid_request, unread."""
    _decide("skip", partition, offset)


@app.command()
def release(partition: PartitionOption = None, offset: OffsetOption = None) -> None:
    """Let a record that is held be read again, once what made it end processes is mended."""
    _decide("release", partition, offset)


def _decide(verdict: Verdict, partition: int | None, offset: int | None) -> None:
    from services.sender.deciding import decide_on_record

    settings = load_settings(DecisionSettings)
    url = settings.database_url.get_secret_value()
    topic = Topics(settings.topic_prefix).requested
    try:
        code = asyncio.run(decide_on_record(url, topic, verdict, partition, offset))
    except DatabaseUnavailable as exc:
        typer.echo(f"{exc}: is the server in MILENA_DATABASE_URL running?", err=True)
        code = 2
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
