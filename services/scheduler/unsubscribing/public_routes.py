"""`/unsubscribe/{token}`: for recipients and their mail programs, who have no key (RFC 8058)."""

from collections.abc import Awaitable
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Path, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from services.scheduler.unsubscribing.answering import FIELD, VALUE, LinkAnswers
from services.scheduler.unsubscribing.links import PATH
from services.scheduler.unsubscribing.page import HEADERS, refuse
from shared.apidocs import describe_problems
from shared.bodies import cut_off, read_body
from shared.database import DatabaseUnavailable
from shared.problems import Problem

TAG: Any = ["Unsubscribing"]
Token = Annotated[str, Path(description="of the link in a mail", examples=["AT57-5nYkEoPhgR99bPgushm"])]
_FIELDS = 10
_PUBLIC: dict[str, Any] = {"security": []}  # no key
_MEANINGS = {
    400: "The form does not say `List-Unsubscribe=One-Click`: nothing has changed",
    403: "Asked from outside MILENA_PUBLIC_NETWORKS",
    404: "The link is not whole, or was not made here",
    429: "Asked too often from one address; `Retry-After` says when to try again",
}
_SCHEMA = {"type": "object", "properties": {FIELD: {"type": "string", "enum": [VALUE]}}, "required": [FIELD]}
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            media: {"schema": _SCHEMA, "example": {FIELD: VALUE}}
            for media in ("application/x-www-form-urlencoded", "multipart/form-data")
        },
    }
}


def setup_links(app: FastAPI, answers: LinkAnswers) -> None:
    """Add the routes."""

    @app.head(f"{PATH}/{{token}}", include_in_schema=False)  # scanners ask so, and a link they find broken counts
    @app.get(
        f"{PATH}/{{token}}",
        tags=TAG,
        summary="The page of a link to unsubscribe",
        response_class=HTMLResponse,
        responses=_describe(403, 404, 422, 429, 503),
        openapi_extra=_PUBLIC,
    )
    async def show_link(request: Request, token: Token) -> Response:
        """A page with a button. To look at it changes nothing, for mail programs and scanners open links by themselves.

        No key is asked for: the link is signed, and leads to one recipient of one mailing.
        """

        async def show() -> str:
            return await answers.show(answers.admit(request.state.caller, token))

        return await _answer(request, show())

    @app.post(
        f"{PATH}/{{token}}",
        tags=TAG,
        summary="Unsubscribe with one click",
        response_class=HTMLResponse,
        responses=_describe(400, 403, 404, 422, 429, 503),
        openapi_extra=_PUBLIC | _FORM,
    )
    async def use_link(request: Request, token: Token) -> Response:
        """From now on the recipient gets no mailing of this account; a mailing that runs skips him. Other mail goes on.

        It is what mail programs send for the header `List-Unsubscribe-Post` (RFC 8058), and the button of the page.
        Asked again it answers the same. After a 503 it has to be asked again.
        """

        async def act() -> str:
            link = answers.admit(request.state.caller, token)
            return await answers.unsubscribe(link, await _read_form(request))

        return await _answer(request, act())


def _describe(*statuses: int) -> dict[int | str, dict[str, Any]]:
    described = describe_problems(*statuses)
    for status, meaning in _MEANINGS.items():
        if status in described:
            described[status]["description"] = f"{meaning}. A browser gets a page"
    return described


async def _answer(request: Request, page: Awaitable[str]) -> Response:
    """The page, or what went wrong: as a page for people, as a problem document for programs."""
    try:
        return HTMLResponse(await page, headers=HEADERS)
    except DatabaseUnavailable:
        detail = "This did not work just now: nothing has changed. Please try again in a minute."
        problem = Problem(503, "unavailable", detail)
    except Problem as exc:
        problem = exc
    answer = problem.to_response(request.state.request_id)
    if "text/html" not in request.headers.get("accept", ""):
        return answer
    kept = {name: value for name, value in answer.headers.items() if name == "retry-after"}
    title = str(problem.to_document()["title"])
    return HTMLResponse(refuse(title, problem.detail), status_code=problem.status, headers=HEADERS | kept)


async def _read_form(request: Request) -> dict[str, str]:
    """The fields of either kind of form; none of what is no form."""
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        try:
            async with request.form(max_files=0, max_fields=_FIELDS) as form:
                return {name: value for name, value in form.multi_items() if isinstance(value, str)}
        except HTTPException:
            return {}
        except ClientDisconnect:
            raise cut_off() from None
    body = await read_body(request)
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=_FIELDS))
    except ValueError:
        return {}
