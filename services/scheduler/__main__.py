"""`python -m services.scheduler api|worker|jobs|migrate`."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import typer
import uvloop

from services.scheduler.settings import ApiSettings, JobRunnerSettings, WorkerSettings
from shared.failpoints import EVERYWHERE, arm_failpoints
from shared.process import calm_collector, run_parts
from shared.settings import DatabaseSettings, load_settings
from shared.telemetry import set_up_telemetry

if TYPE_CHECKING:
    from services.scheduler.runs.runner import JobRunner

# A command loads what only it needs, after the collector has been calmed (a tenth of the imports' CPU is its looking
# through them): a worker is there a quarter sooner without FastAPI and Alembic.
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def api() -> None:
    """Serve what waits for its time, tasks, batches, contacts, lists, mailings, and links to unsubscribe."""
    calm_collector()
    from services.scheduler.api import create_api
    from shared.serving import serve

    settings = load_settings(ApiSettings)
    set_up_telemetry(settings, service="scheduler-api", slot=settings.slot)
    serve(create_api(settings), settings)


@app.command()
def worker() -> None:
    """Keep delayed mail and bulk mail, and let them go when it is time; fire tasks."""
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
def jobs() -> None:
    """Run the jobs of tasks that have fired, those asked for by hand, and those that drive mailings."""
    calm_collector()
    from services.scheduler.runs.job import InvalidJob
    from services.scheduler.runs.loading import load_jobs
    from services.scheduler.runs.runner import create_job_runner
    from shared.consuming import run_faust

    settings = load_settings(JobRunnerSettings)
    set_up_telemetry(settings, service="scheduler-jobs", slot=settings.slot)
    try:
        known = load_jobs(settings.job_modules)
    except InvalidJob as exc:
        typer.echo(str(exc), err=True)
        raise typer.Exit(2) from None
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # Faust's consumer thread makes a loop of its own
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def build() -> "JobRunner":
        return create_job_runner(settings, known)

    built = loop.run_until_complete(build())
    run_faust(built.app, built.parts, built.lane, built.options, built.is_paused, loop)


@app.command()
def migrate() -> None:
    """Bring the schema `scheduler` up to date."""
    from shared.migrations import migrate as run_migrations

    settings = load_settings(DatabaseSettings)
    url = settings.database_url.get_secret_value()
    asyncio.run(run_migrations(url, "scheduler", Path(__file__).parent / "migrations"))


if __name__ == "__main__":
    app()
