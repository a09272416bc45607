"""`python -m services.gateway keys create|list|rotate|revoke` and `accounts create|list`.

Whoever is on the machine may do what /v1/keys refuses: grant anything, end an account's last key.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from math import isnan
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError

from services.gateway.proving import parse_duration
from services.gateway.settings import AdminSettings
from shared.access import AccessStore, ApiKey, ApiScope, UnknownAccount, derive_webhook_secret
from shared.access.keys import APPLICATION_SCOPES, FASTEST, check_network
from shared.access.store import KeyNotUsable
from shared.database import Database, DatabaseUnavailable
from shared.events import DEFAULT_ACCOUNT, format_time
from shared.events.requested import Account
from shared.logs import set_up_logs
from shared.settings import Network, load_settings

Result = TypeVar("Result")
Shown = dict[str, str | float | list[str] | bool | None]

keys = typer.Typer(no_args_is_help=True, help="API keys.")
accounts = typer.Typer(no_args_is_help=True, help="Accounts, to which keys and mails belong.")

_OVERLAP_LIMIT = timedelta(days=30)
_AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
_Lasting = Annotated[str, typer.Option("--expires-in", help="its life: 12h, 90d; default: no end")]


def _check_rate(rate: float | None) -> float | None:
    if rate is not None and isnan(rate):
        raise typer.BadParameter("is no number")
    return rate


def _rate_option(what: str) -> Any:
    text = f"{what} a second it may ask for; 0: no limit; default: what the settings say"
    return typer.Option(min=0, max=FASTEST, callback=_check_rate, help=text)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="what the key is for")],
    sender: Annotated[list[str], typer.Option(help="allowed sender: an address, *@domain, or * (repeatable)")],
    scope: Annotated[list[ApiScope] | None, typer.Option(help="repeatable; default: all an application needs")] = None,
    network: Annotated[list[str] | None, typer.Option(help="where it may be used: 10.0.0.0/8 (repeatable)")] = None,
    expires_in: _Lasting = "",
    test: Annotated[bool, typer.Option("--test", help="its mail is simulated, never transmitted")] = False,
    account: Annotated[str, typer.Option(help="the account it belongs to")] = DEFAULT_ACCOUNT,
    request_rate: Annotated[float | None, _rate_option("requests")] = None,
    mail_rate: Annotated[float | None, _rate_option("mails")] = None,
    as_json: _AsJson = False,
) -> None:
    """Mint a key and show it: this once."""
    settings = _read_settings()
    networks, expires_at = _read_networks(network or []), _read_end(expires_in)
    try:
        minted = _with_store(
            settings,
            lambda store: store.create_key(
                account,
                name,
                scopes=scope or APPLICATION_SCOPES,
                senders=sender,
                networks=networks,
                test=test,
                expires_at=expires_at,
                request_rate=request_rate,
                mail_rate=mail_rate,
            ),
        )
    except UnknownAccount:
        _fail(f"there is no account {account!r}; `accounts create {account}` makes it")
    except ValueError as exc:
        _fail(f"--sender: {exc}")
    _reveal(settings, *minted, as_json=as_json)


@keys.command("list")
def list_keys(
    account: Annotated[str | None, typer.Option(help="only this account's")] = None, as_json: _AsJson = False
) -> None:
    """List keys, revoked and expired ones too."""
    found = _with_store(_read_settings(), lambda store: store.list_keys(account))
    if as_json:
        typer.echo(json.dumps([_describe(key) for key in found]))
        return
    for key in found:
        state = f"{key.find_state(datetime.now(UTC))}{' (test)' if key.test else ''}"
        used = f"used {format_time(key.last_used_at)}" if key.last_used_at else "never used"
        line = (
            key.id,
            key.hint,
            state,
            used,
            key.account,
            key.name,
            ",".join(key.senders),
            ",".join(sorted(key.scopes)),
        )
        typer.echo("  ".join(line))


@keys.command("rotate")
def rotate_key(
    key_id: Annotated[str, typer.Argument(help="the key's id, as `keys list` shows it")],
    overlap: Annotated[str, typer.Option(help="for how long the old secret still works: 0s, 1h, 7d")] = "1h",
    expires_in: _Lasting = "",
    as_json: _AsJson = False,
) -> None:
    """Mint a key with the same rights and show it: this once. The old one ends after the overlap."""
    settings = _read_settings()
    length, expires_at = parse_duration(overlap), _read_end(expires_in)
    if length > _OVERLAP_LIMIT:
        _fail(f"--overlap: at most {_OVERLAP_LIMIT.days}d")
    try:
        minted = _with_store(settings, lambda store: store.rotate_key(key_id, length, expires_at=expires_at))
    except KeyNotUsable:
        _fail(f"the key {key_id!r} is revoked or has expired; `keys create` makes a new one")
    if minted is None:
        _fail_unknown(key_id)
    _reveal(settings, *minted, as_json=as_json)


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="the key's id, as `keys list` shows it")]) -> None:
    """Revoke a key; it stops working within 5 s."""
    key = _with_store(_read_settings(), lambda store: store.revoke_key(key_id))
    if key is None:
        _fail_unknown(key_id)
    typer.echo(f"revoked {key.id} ({key.name})")


@accounts.command("create")
def create_account(name: Annotated[str, typer.Argument(help="letters, digits, . _ -")]) -> None:
    """Add an account. Its keys see its own mails only."""
    try:
        TypeAdapter(Account).validate_python(name)
    except ValidationError:
        _fail("an account's name has up to 64 letters, digits, dots, hyphens and underscores, a letter or digit first")
    if not _with_store(_read_settings(), lambda store: store.create_account(name)):
        _fail(f"there is an account {name!r} already")
    typer.echo(f"created {name}; `keys create --account {name}` mints its first key")


@accounts.command("list")
def list_accounts(as_json: _AsJson = False) -> None:
    """List accounts with the number of their working keys."""
    found = _with_store(_read_settings(), lambda store: store.list_accounts())
    if as_json:
        shown = [{"name": each.name, "created_at": format_time(each.created_at), "keys": each.keys} for each in found]
        typer.echo(json.dumps(shown))
        return
    for each in found:
        typer.echo(f"{each.name}  {each.keys} {'key' if each.keys == 1 else 'keys'}  {format_time(each.created_at)}")


def _read_settings() -> AdminSettings:
    settings = load_settings(AdminSettings)
    set_up_logs(settings.log_level, settings.log_format, service="gateway")
    return settings


def _read_networks(texts: list[str]) -> list[Network]:
    try:
        return [check_network(text) for text in texts]
    except ValueError as exc:
        _fail(f"--network: {exc}")


def _read_end(expires_in: str) -> datetime | None:
    if not expires_in:
        return None
    length = parse_duration(expires_in)
    if not timedelta(0) < length <= timedelta(days=36_500):
        _fail("--expires-in: more than nothing, and at most a hundred years")
    return datetime.now(UTC) + length


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


def _reveal(settings: AdminSettings, secret: str, key: ApiKey, *, as_json: bool) -> None:
    """Show a new key with its secret."""
    shown: Shown = {"key": secret, **_describe(key)}
    if settings.master_secret:
        shown["webhook_secret"] = derive_webhook_secret(settings.master_secret.get_secret_value(), key.account)
    if as_json:
        typer.echo(json.dumps(shown))
        return
    for label, value in shown.items():
        if value not in (None, False, []):
            typer.echo(f"{label:>15}  {', '.join(value) if isinstance(value, list) else value}")
    typer.echo("Keep the key: it cannot be shown again.", err=True)


def _describe(key: ApiKey) -> Shown:
    times = {"created_at": key.created_at, "expires_at": key.expires_at, "revoked_at": key.revoked_at}
    times["last_used_at"] = key.last_used_at
    return {
        "id": key.id,
        "name": key.name,
        "account": key.account,
        "hint": key.hint,
        "state": key.find_state(datetime.now(UTC)).value,
        "senders": list(key.senders),
        "scopes": sorted(key.scopes),
        "networks": [str(each) for each in key.networks],
        "test": key.test,
        "replaces": key.replaces,
        "request_rate": key.request_rate,
        "mail_rate": key.mail_rate,
        **{name: format_time(at) if at else None for name, at in times.items()},
    }


def _fail_unknown(key_id: str) -> NoReturn:
    _fail(f"there is no key {key_id!r}; `keys list` shows the ids")


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
