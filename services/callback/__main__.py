"""`python -m services.callback api|worker|migrate`."""

import asyncio
from pathlib import Path

import typer
import uvloop

from services.callback.settings import STOP_GRACE_S, ApiSettings, WorkerSettings
from shared.process import calm_collector, run_parts
from shared.settings import DatabaseSettings, load_settings
from shared.telemetry import set_up_telemetry

# A command loads what only it needs, after the collector has been calmed (a tenth of the imports' CPU is its looking
# through them): a worker is there a quarter sooner without FastAPI and Alembic.
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def api() -> None:
    """Serve /v1/webhooks."""
    calm_collector()
    from services.callback.api import create_api
    from shared.serving import serve

    settings = load_settings(ApiSettings)
    set_up_telemetry(settings, service="callback-api", slot=settings.slot)
    serve(create_api(settings), settings)


@app.command()
def worker() -> None:
    """Tell applications what became of their mail."""
    calm_collector()
    from services.callback.worker import create_worker

    settings = load_settings(WorkerSettings)
    set_up_telemetry(settings, service="callback-worker", slot=settings.slot)

    async def run() -> None:
        await run_parts(create_worker(settings), grace_s=STOP_GRACE_S)

    uvloop.run(run())


@app.command()
def migrate() -> None:
    """Bring the schema `callback` up to date."""
    from shared.migrations import migrate as run_migrations

    settings = load_settings(DatabaseSettings)
    url = settings.database_url.get_secret_value()
    asyncio.run(run_migrations(url, "callback", Path(__file__).parent / "migrations"))


if __name__ == "__main__":
    app()
