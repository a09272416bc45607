"""`GET /v1/mailings/stats` and `GET /v1/mailings/{id}/recipients`: how mailings stand, and who got them."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from services.scheduler.importing.formulas import guard_cell
from services.scheduler.mailings.commands import find_mailing, refuse_forgotten
from services.scheduler.mailings.routes import PATH, SCOPE, TAG, MailingId, describe_answers
from services.scheduler.mailings.standing.answers import (
    RecipientPage,
    RecipientView,
    StatsSummary,
    TotalStats,
    show_recipient,
    show_stats,
)
from services.scheduler.mailings.standing.outcome_store import OutcomeStore
from services.scheduler.mailings.standing.reasons_store import ReasonStore
from services.scheduler.mailings.standing.standing import merge_reasons
from services.scheduler.mailings.standing.store import StandingStore
from services.scheduler.mailings.states import KEPT_AS, MessageState
from services.scheduler.mailings.store import MailingStore
from shared.access import KeyLookup
from shared.authenticating import authenticate
from shared.cursors import mark_list, read_cursor, read_time_cursor, write_cursor, write_time_cursor
from shared.problems import invalid_content

_AFTER = "/query/after"
_PORTION = 1000
_FIELDS = tuple(RecipientView.model_fields)
_CSV: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}, "example": ",".join(_FIELDS) + "\n"}}}
}


class StatsQuery(BaseModel):
    """Which page."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=200, description="of a page")
    after: str | None = Field(default=None, max_length=1000, description="`next` of the page before")


class RecipientQuery(StatsQuery):
    """Which recipients: a page of them, or all as CSV."""

    limit: int = Field(default=100, ge=1, le=1000, description="of a page")
    state: MessageState | None = Field(default=None, description="those whose mail stands so")
    reason: str | None = Field(default=None, max_length=100, description="of those that failed or were skipped")
    format: Literal["json", "csv"] = Field(default="json", description="`csv`: all of them, to download")


def setup_stats(app: FastAPI, keys: KeyLookup, standings: StandingStore, reasons: ReasonStore) -> None:
    """Add `GET /v1/mailings/stats`. To be added before `/v1/mailings/{id}`, which would take it for an id."""

    @app.get(
        f"{PATH}/stats",
        tags=TAG,
        summary="Mailings in figures",
        operation_id="statsSummary",
        responses=describe_answers(),
    )
    async def summarize(request: Request, query: Annotated[StatsQuery, Query()]) -> StatsSummary:
        """What was sent, what failed and why, how fast and how long: of all mailings together, and of each, newest
        first. While `next` is there, there are more.
        """
        key = await authenticate(request, keys, SCOPE)
        mark = mark_list(key.account, "stats")
        after = read_time_cursor(query.after, _AFTER, mark) if query.after else None
        found = await standings.list_page(key.account, after, query.limit + 1)
        shown = found[: query.limit]
        failed = await reasons.count([each.id for each in shown])
        more = write_time_cursor(shown[-1].created_at, shown[-1].id, mark) if len(found) > query.limit else None
        return StatsSummary(
            total=await _sum_up(standings, reasons, key.account),
            data=[show_stats(each, merge_reasons(failed[each.id])) for each in shown],
            next=more,
        )


async def _sum_up(standings: StandingStore, reasons: ReasonStore, account: str) -> TotalStats:
    mailings, counts = await standings.sum_up(account)
    return TotalStats(
        mailings=mailings,
        recipients=sum(counts.values()),
        sent=sum(counts[kept] for kept in KEPT_AS[MessageState.SUCCESS]),
        failed=merge_reasons(await reasons.count_all(account)),
        skipped=sum(counts[kept] for kept in KEPT_AS[MessageState.SKIPPED]),
    )


def setup_recipients(app: FastAPI, keys: KeyLookup, store: MailingStore, outcomes: OutcomeStore) -> None:
    """Add `GET /v1/mailings/{id}/recipients`."""

    @app.get(
        f"{PATH}/{{mailing_id}}/recipients",
        tags=TAG,
        summary="Who got a mailing, and who did not",
        response_model=RecipientPage,
        responses=_CSV | describe_answers(404, 410),
    )
    async def list_recipients(
        request: Request, mailing_id: MailingId, query: Annotated[RecipientQuery, Query()]
    ) -> Any:
        """Every recipient with the state of his mail, page by page, or all at once with `format=csv`.

        `state=fail` are those an attempt failed for; `final` says whether more may follow. A value that a
        spreadsheet would take for a formula has an apostrophe before it in CSV.
        """
        key = await authenticate(request, keys, SCOPE)
        found = await find_mailing(store, mailing_id, key)
        refuse_forgotten(found, 410)
        if query.format == "csv":
            return _download(outcomes, found.id, query)
        mark = mark_list(str(found.id), query.state or "", query.reason or "")
        after = _read_position(query.after, mark) if query.after else None
        recipients = await outcomes.list_recipients(found.id, query.state, query.reason, after, query.limit + 1)
        shown = recipients[: query.limit]
        more = write_cursor(str(shown[-1].recipient), mark) if len(recipients) > query.limit else None
        return RecipientPage(data=list(map(show_recipient, shown)), next=more)


def _read_position(text: str, mark: str) -> UUID:
    position, of = read_cursor(text, 2, _AFTER)
    try:
        if of == mark:
            return UUID(position)
    except ValueError:
        pass
    detail = "not a cursor of this list: pass `next` of the answer before, and change nothing else"
    raise invalid_content([{"detail": detail, "pointer": _AFTER}])


def _download(outcomes: OutcomeStore, mailing_id: UUID, query: RecipientQuery) -> Response:
    headers = {"content-disposition": f'attachment; filename="recipients-{mailing_id}.csv"'}
    written = _write_csv(outcomes, mailing_id, query)
    return StreamingResponse(written, media_type="text/csv; charset=utf-8", headers=headers)


async def _write_csv(outcomes: OutcomeStore, mailing_id: UUID, query: RecipientQuery) -> AsyncIterator[str]:
    yield ",".join(_FIELDS) + "\r\n"
    after = None
    while portion := await outcomes.list_recipients(mailing_id, query.state, query.reason, after, _PORTION):
        written = io.StringIO()
        for each in portion:
            csv.writer(written).writerow(map(_to_cell, show_recipient(each).model_dump(mode="json").values()))
        yield written.getvalue()
        after = portion[-1].recipient


def _to_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return guard_cell(value) if isinstance(value, str) else value
