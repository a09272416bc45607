"""`python -m services.gateway api|worker|migrate|topics|keys|reconcile|rebuild`."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
import uvloop

from services.gateway.proving import rebuild, reconcile
from services.gateway.settings import AdminSettings, ApiSettings, TopicSettings, WorkerSettings
from services.gateway.tables import SCHEMA
from shared.access import AccessStore, ApiKey, ApiScope, UnknownAccount, derive_webhook_secret
from shared.database import Database, DatabaseUnavailable
from shared.events import DEFAULT_ACCOUNT, format_time
from shared.logs import set_up_logs
from shared.process import calm_collector, run_parts
from shared.settings import load_settings
from shared.topics import TopicPlan, Topics, TopicsMissing, prepare_topics

Result = TypeVar("Result")

# What an application needs. Minting keys and operating the service are for keys that name those scopes.
_DEFAULT_SCOPES = [scope for scope in ApiScope if scope not in {ApiScope.KEYS_ADMIN, ApiScope.OPERATE}]
_RATE = "{} a second it may ask for; 0: no limit; default: what the settings say"

# A command loads what only it needs: a worker is there a quarter sooner without FastAPI and Alembic.
app = typer.Typer(no_args_is_help=True, add_completion=False, help="The gateway: mails in, their status out.")
keys = typer.Typer(no_args_is_help=True, help="API keys.")
app.add_typer(keys, name="keys")
app.command()(reconcile)
app.command()(rebuild)


@app.command()
def api() -> None:
    """Serve the HTTP API until SIGTERM."""
    calm_collector()  # a tenth of the imports' CPU is its looking through them
    from services.gateway.api import create_api
    from shared.serving import serve

    settings = load_settings(ApiSettings)
    set_up_logs(settings.log_level, settings.log_format, service="gateway-api")
    serve(create_api(settings), settings)


@app.command()
def worker() -> None:
    """Keep the read model until SIGTERM."""
    from services.gateway.worker import create_worker

    settings = load_settings(WorkerSettings)
    set_up_logs(settings.log_level, settings.log_format, service="gateway-worker")
    uvloop.run(run_parts(create_worker(settings)))


@app.command()
def migrate() -> None:
    """Bring the schemas `access` and `gateway` up to date."""
    from shared.migrations import ACCESS_VERSIONS
    from shared.migrations import migrate as migrate_schema

    settings = _read_settings()

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
                settings.kafka_bootstrap_servers,
                Topics(settings.topic_prefix),
                settings.topic_mode,
                TopicPlan(event_limit=settings.event_limit),
            )
        )
    except TopicsMissing as exc:
        _fail(str(exc))


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="what the key is for")],
    sender: Annotated[list[str], typer.Option(help="allowed sender: an address, *@domain, or * (repeatable)")],
    scope: Annotated[list[ApiScope] | None, typer.Option(help="repeatable; default: all an application needs")] = None,
    account: Annotated[str, typer.Option(help="the account it belongs to")] = DEFAULT_ACCOUNT,
    request_rate: Annotated[float | None, typer.Option(min=0, help=_RATE.format("requests"))] = None,
    mail_rate: Annotated[float | None, typer.Option(min=0, help=_RATE.format("mails"))] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Mint a key and show it: this once."""
    settings = _read_settings()
    try:
        secret, key = _with_store(
            settings,
            lambda store: store.create_key(
                account,
                name,
                scopes=scope or _DEFAULT_SCOPES,
                senders=sender,
                request_rate=request_rate,
                mail_rate=mail_rate,
            ),
        )
    except UnknownAccount:
        _fail(f"there is no account {account!r}")
    except ValueError as exc:
        _fail(f"--sender: {exc}")
    shown = {"key": secret, **_describe(key)}
    if settings.master_secret:
        shown["webhook_secret"] = derive_webhook_secret(settings.master_secret.get_secret_value(), account)
    if as_json:
        typer.echo(json.dumps(shown))
        return
    for label, value in shown.items():
        typer.echo(f"{label:>15}  {', '.join(value) if isinstance(value, list) else value}")
    typer.echo("Keep the key: it cannot be shown again.", err=True)


@keys.command("list")
def list_keys(
    account: Annotated[str | None, typer.Option(help="only this account's")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List keys, revoked ones too."""
    found = _with_store(_read_settings(), lambda store: store.list_keys(account))
    if as_json:
        typer.echo(json.dumps([_describe(key) for key in found]))
        return
    for key in found:
        state = f"revoked {format_time(key.revoked_at)}" if key.revoked_at else "active"
        line = (key.id, key.hint, state, key.account, key.name, ",".join(key.senders), ",".join(sorted(key.scopes)))
        typer.echo("  ".join(line))


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="the key's id, as `keys list` shows it")]) -> None:
    """Revoke a key; it stops working within 5 s."""
    key = _with_store(_read_settings(), lambda store: store.revoke_key(key_id))
    if key is None:
        _fail(f"there is no key {key_id!r}; `keys list` shows the ids")
    typer.echo(f"revoked {key.id} ({key.name})")


def _read_settings() -> AdminSettings:
    settings = load_settings(AdminSettings)
    set_up_logs(settings.log_level, settings.log_format, service="gateway")
    return settings


def _with_store(settings: AdminSettings, work: Callable[[AccessStore], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        database = Database(settings.database_url.get_secret_value(), pool_size=1)
        try:
            return await work(AccessStore(database))
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except DatabaseUnavailable as exc:
        _fail(f"{exc}: is the server in MILENA_DATABASE_URL running?")


def _describe(key: ApiKey) -> dict[str, str | float | list[str] | None]:
    return {
        "id": key.id,
        "name": key.name,
        "account": key.account,
        "hint": key.hint,
        "senders": list(key.senders),
        "scopes": sorted(key.scopes),
        "request_rate": key.request_rate,
        "mail_rate": key.mail_rate,
        "created_at": format_time(key.created_at),
        "revoked_at": format_time(key.revoked_at) if key.revoked_at else None,
    }


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
