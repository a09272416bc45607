"""The commands `reconcile` and `rebuild`. Exit code 1: something does not add up; 2: it could not be run."""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NoReturn, TypeVar

import asyncpg
import typer

from services.gateway.gathering import Gathering
from services.gateway.rebuilding import Rebuild, Summary
from services.gateway.reconciling import Reconciliation, Report
from services.gateway.replaying import Replay
from services.gateway.reports import describe_report, describe_summary, report_to_json
from services.gateway.run_store import ReconciliationStore
from services.gateway.settings import ProvingSettings
from services.gateway.shadow_store import AnotherRebuild, ShadowStore
from services.gateway.store import ReadModel
from services.gateway.worker import Projector
from shared.database import Database, database_now
from shared.logs import set_up_logs
from shared.retrying import Unavailable
from shared.settings import load_settings
from shared.topics import Topics

Result = TypeVar("Result")

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SWAP_TIMEOUT_S = 3600  # of one statement: a day's mails at once


def parse_duration(text: str) -> timedelta:
    """`90s`, `30m`, `24h`, `7d`. Raises BadParameter."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", text.strip())
    if not match:
        raise typer.BadParameter("write a duration as 90s, 30m, 24h or 7d")
    return timedelta(seconds=int(match[1]) * _UNITS_S[match[2]])


def reconcile(
    since: Annotated[str, typer.Option(help="only what is younger: 90s, 30m, 24h, 7d; default: all there is")] = "",
    pending_after: Annotated[str, typer.Option(help="how long a mail may wait unexplained")] = "30s",
    patience: Annotated[str, typer.Option(help="how long the read model may take to follow the records")] = "15s",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Prove that every accepted mail has an outcome or a reason to wait, and that the read model says the same."""
    begin = datetime.now(UTC) - parse_duration(since) if since else None
    report, started_at = _run(
        _reconcile(_read_settings(), begin, parse_duration(pending_after), parse_duration(patience))
    )
    if as_json:
        typer.echo(json.dumps(report_to_json(report, started_at, begin)))
    else:
        for line in describe_report(report):
            typer.echo(line)
    raise typer.Exit(1 if report.faults else 0)


def rebuild() -> None:
    """Make the read model again from what the topics still hold, beside the live one, and swap."""
    typer.echo(describe_summary(_run(_rebuild(_read_settings(), typer.echo))))


async def _reconcile(
    settings: ProvingSettings, since: datetime | None, pending_after: timedelta, patience: timedelta
) -> tuple[Report, datetime]:
    database = Database(settings.database_url.get_secret_value(), application_name="milena-reconcile")
    replay = _create_replay(settings)
    try:
        started_at: datetime = await database_now(database)
        await replay.start(since)
        topics = Topics(settings.topic_prefix)
        report = await Reconciliation(
            replay,
            Gathering(topics, replay.cluster_id, settings.event_limit),
            ReadModel(database),
            now=datetime.now(UTC),
            pending_after=pending_after,
            patience=patience,
        ).run()
        await ReconciliationStore(database).save(
            started_at=started_at, accepted=report.accepted, faults=report.faults, states=report.states
        )
        return report, started_at
    finally:
        await replay.stop()
        await database.close()


async def _rebuild(settings: ProvingSettings, say: Callable[[str], None]) -> Summary:
    url = settings.database_url.get_secret_value()
    database = Database(url, application_name="milena-rebuild", statement_timeout_s=_SWAP_TIMEOUT_S)
    replay = _create_replay(settings)
    try:
        await replay.start()
        shadow = ShadowStore(database)
        projector = Projector(
            database,
            kafka=settings.kafka,
            event_limit=settings.event_limit,
            cluster_id=replay.cluster_id,
            store=shadow.projection,
        )
        return await Rebuild(replay, shadow, projector, say).run()
    finally:
        await replay.stop()
        await database.close()


def _create_replay(settings: ProvingSettings) -> Replay:
    topics = Topics(settings.topic_prefix)
    return Replay(
        [topics.requested, topics.sent, topics.failed],
        kafka=settings.kafka,
        event_limit=settings.event_limit,
    )


def _read_settings() -> ProvingSettings:
    settings = load_settings(ProvingSettings)
    set_up_logs(settings.log_level, settings.log_format, service="gateway")
    return settings


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except AnotherRebuild:
        _give_up("a rebuild is running already")
    except Unavailable as exc:
        _give_up(f"could not run: {exc}")
    except asyncpg.UndefinedTableError:
        _give_up("could not run: the schema is not up to date; `python -m services.gateway migrate` makes it so")
    except asyncpg.PostgresError as exc:
        _give_up(f"could not run: postgresql: {type(exc).__name__}")


def _give_up(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)
