"""`python -m services.scheduler api|worker|migrate`."""

import asyncio
from pathlib import Path

import typer
import uvloop

from services.scheduler.settings import ApiSettings, WorkerSettings
from shared.failpoints import EVERYWHERE, arm_failpoints
from shared.process import calm_collector, run_parts
from shared.settings import DatabaseSettings, load_settings
from shared.telemetry import set_up_telemetry

# A command loads what only it needs, after the collector has been calmed (a tenth of the imports' CPU is its looking
# through them): a worker is there a quarter sooner without FastAPI and Alembic.
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def api() -> None:
    """Serve /v1/scheduled."""
    calm_collector()
    from services.scheduler.api import create_api
    from shared.serving import serve

    settings = load_settings(ApiSettings)
    set_up_telemetry(settings, service="scheduler-api", slot=settings.slot)
    serve(create_api(settings), settings)


@app.command()
def worker() -> None:
    """Keep delayed mail and give it back when it is due."""
    calm_collector()
    from services.scheduler.worker import create_worker

    settings = load_settings(WorkerSettings)
    set_up_telemetry(settings, service="scheduler-worker", slot=settings.slot)
    try:
        arm_failpoints(settings.test_failpoints, EVERYWHERE)
    except ValueError as exc:
        typer.echo(f"MILENA_TEST_FAILPOINTS: {exc}", err=True)
        raise typer.Exit(2) from None

    async def run() -> None:
        await run_parts(create_worker(settings), grace_s=60)

    uvloop.run(run())


@app.command()
def migrate() -> None:
    """Bring the schema `scheduler` up to date."""
    from shared.migrations import migrate as run_migrations

    settings = load_settings(DatabaseSettings)
    url = settings.database_url.get_secret_value()
    asyncio.run(run_migrations(url, "scheduler", Path(__file__).parent / "migrations"))


if __name__ == "__main__":
    app()
