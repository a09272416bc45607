"""`python -m services.sender unknown list|resend|settle`: the twin of /v1/unknown for whoever is on the machine."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

import typer

from services.sender.settling import NOTE_LIMIT, Intent, find_refusal
from services.sender.store import Filter, HeldMail, UnknownStore
from shared.database import Database, DatabaseUnavailable
from shared.settings import DatabaseSettings, load_settings

app = typer.Typer(
    no_args_is_help=True, help="Mail of which nobody can know whether the relay has it: list, resend, settle."
)
_MANY = 1000  # decided on in one statement

Ids = Annotated[list[UUID] | None, typer.Argument(help="the mails' ids; or choose them by the options")]
AccountOption = Annotated[str | None, typer.Option(help="only this account's")]
RelayOption = Annotated[str | None, typer.Option(help="only those this relay may have")]
AgeOption = Annotated[float | None, typer.Option("--older-than", help="only those waiting for so many seconds; 0: all")]


@app.command("list")
def list_waiting(account: AccountOption = None, relay: RelayOption = None, older_than: AgeOption = None) -> None:
    """List the mails that wait for an operator, oldest first. No addresses are shown."""

    async def show(store: UnknownStore) -> int:
        after = None
        while page := await store.list_held(_filter(account, relay, older_than), after, _MANY):
            for mail in page:
                typer.echo(_describe(mail))
            after = page[-1].accepted_at, page[-1].id
        return 0

    _run(show)


@app.command()
def resend(
    ids: Ids = None, account: AccountOption = None, relay: RelayOption = None, older_than: AgeOption = None
) -> None:
    """Send mails again under their Message-IDs; those who have them already get them twice."""
    _decide(Intent.RESEND, "", ids, _filter(account, relay, older_than))


@app.command()
def settle(
    outcome: Annotated[Literal["sent", "failed"], typer.Argument(help="what became of them")],
    ids: Ids = None,
    note: Annotated[str, typer.Option(help="stands in the result event")] = "",
    account: AccountOption = None,
    relay: RelayOption = None,
    older_than: AgeOption = None,
) -> None:
    """End mails as sent or failed."""
    if len(note) > NOTE_LIMIT or not note.isprintable():
        raise typer.BadParameter(f"at most {NOTE_LIMIT} characters in one line", param_hint="--note")
    _decide(Intent(outcome), note, ids, _filter(account, relay, older_than))


def _decide(intent: Intent, note: str, ids: list[UUID] | None, chosen: Filter) -> None:
    by_filter = chosen != Filter()
    if bool(ids) == by_filter:
        raise typer.BadParameter("name ids, or choose by --account, --relay, --older-than (0: all)")
    by = "command line"

    async def decide(store: UnknownStore) -> int:
        if ids:
            refused = [await _decide_on_one(store, each, intent, note, by) for each in ids]
            return int(any(refused))
        total, decided = 0, _MANY
        while decided == _MANY:
            decided = len(await store.decide_on(chosen, intent, note, by, _MANY))
            total += decided
        typer.echo(f"{total} mails: {intent}; the senders act on it at once")
        return 0

    _run(decide)


async def _decide_on_one(store: UnknownStore, email_id: UUID, intent: Intent, note: str, by: str) -> bool:
    """Returns whether it was refused."""
    if intent is Intent.RESEND and await store.is_cancelled(email_id):
        typer.echo(f"{email_id}: its account has cancelled it; settle it instead", err=True)
        return True
    if not await store.decide(email_id, intent, note, by):
        refusal = find_refusal(await store.find_decided(email_id), intent)
        if refusal:
            typer.echo(f"{email_id}: {refusal.detail}", err=True)
            return True
    typer.echo(f"{email_id}: {intent}; a sender acts on it at once")
    return False


def _filter(account: str | None, relay: str | None, older_than: float | None) -> Filter:
    return Filter(account, relay, None if older_than is None else timedelta(seconds=older_than))


def _describe(mail: HeldMail) -> str:
    open_ones = sum(1 for each in mail.results if each["state"] == "unknown")
    relay = next((each["relay"] for each in reversed(mail.results) if each.get("relay")), "-")
    since = mail.since.isoformat(timespec="seconds")
    deciding = f"  decided: {mail.intent}" if mail.intent else ""
    return (
        f"{mail.id}  account {mail.account}  since {since}  attempt {mail.attempt}  relay {relay}  "
        f"recipients {open_ones} of {len(mail.results)}  Message-ID {mail.message_id}{deciding}"
    )


def _run(act: Callable[[UnknownStore], Awaitable[int]]) -> None:
    url = load_settings(DatabaseSettings).database_url.get_secret_value()

    async def run() -> int:
        database = Database(url, pool_size=1, application_name="milena-sender-unknown")
        try:
            return await act(UnknownStore(database))
        finally:
            await database.close()

    try:
        code = asyncio.run(run())
    except DatabaseUnavailable as exc:
        typer.echo(f"{exc}: is the server in MILENA_DATABASE_URL running?", err=True)
        code = 2
    raise typer.Exit(code)
