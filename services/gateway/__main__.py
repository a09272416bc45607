"""`python -m services.gateway api|worker|smtp|migrate|topics|keys|accounts|reconcile|rebuild`."""

import asyncio
from pathlib import Path
from typing import NoReturn

import typer
import uvloop
from aiokafka.errors import KafkaError

from services.gateway.key_commands import accounts, keys
from services.gateway.proving import rebuild, reconcile
from services.gateway.settings import AdminSettings, ApiSettings, SmtpSettings, TopicSettings, WorkerSettings
from services.gateway.tables import SCHEMA
from shared.failpoints import EVERYWHERE, arm_failpoints
from shared.kafka_access import KafkaAbsent
from shared.logs import set_up_logs
from shared.process import calm_collector, run_parts
from shared.settings import load_settings
from shared.telemetry import set_up_telemetry
from shared.topics import TopicPlan, Topics, TopicsMissing, prepare_topics

# A command loads what only it needs: a worker is there a quarter sooner without FastAPI and Alembic.
app = typer.Typer(no_args_is_help=True, add_completion=False, help="The gateway: mails in, their status out.")
app.add_typer(keys, name="keys")
app.add_typer(accounts, name="accounts")
app.command()(reconcile)
app.command()(rebuild)


@app.command()
def api() -> None:
    """Serve the HTTP API until SIGTERM."""
    calm_collector()  # a tenth of the imports' CPU is its looking through them
    from services.gateway.api import create_api
    from shared.serving import serve

    settings = load_settings(ApiSettings)
    set_up_telemetry(settings, service="gateway-api")
    try:
        arm_failpoints(settings.test_failpoints, EVERYWHERE)
    except ValueError as exc:
        _fail(f"MILENA_TEST_FAILPOINTS: {exc}")
    serve(create_api(settings), settings)


@app.command()
def worker() -> None:
    """Keep the read model until SIGTERM."""
    from services.gateway.worker import create_worker

    settings = load_settings(WorkerSettings)
    set_up_telemetry(settings, service="gateway-worker")
    uvloop.run(run_parts(create_worker(settings)))


@app.command()
def smtp() -> None:
    """Take mail by SMTP until SIGTERM."""
    from services.gateway.smtp import create_ingest

    settings = load_settings(SmtpSettings)
    set_up_telemetry(settings, service="gateway-smtp")

    async def run() -> None:
        await run_parts(create_ingest(settings))

    uvloop.run(run())


@app.command()
def migrate() -> None:
    """Bring the schemas `access` and `gateway` up to date."""
    from shared.migrations import ACCESS_VERSIONS
    from shared.migrations import migrate as migrate_schema

    settings = load_settings(AdminSettings)
    set_up_logs(settings.log_level, settings.log_format, service="gateway")

    async def run() -> None:
        url = settings.database_url.get_secret_value()
        await migrate_schema(url, "access", ACCESS_VERSIONS)
        await migrate_schema(url, SCHEMA, Path(__file__).parent / "migrations")

    asyncio.run(run())


@app.command()
def topics() -> None:
    """Create the four topics, or (MILENA_TOPIC_MODE=verify) say which are missing."""
    settings = load_settings(TopicSettings)
    set_up_logs(settings.log_level, settings.log_format, service="gateway")
    try:
        asyncio.run(
            prepare_topics(
                settings.kafka,
                Topics(settings.topic_prefix),
                settings.topic_mode,
                TopicPlan(event_limit=settings.event_limit),
            )
        )
    except (TopicsMissing, KafkaAbsent, KafkaError) as exc:
        _fail(str(exc))


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
