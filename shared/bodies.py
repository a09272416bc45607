"""JSON bodies that routes read themselves.

Errors leave as problems: 400 for what cannot be parsed, 422 with a pointer to each field otherwise.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from shared.events import list_errors
from shared.problems import Problem, invalid_content, reword
from shared.whole_numbers import BEYOND, find_rounded

Body = TypeVar("Body", bound=BaseModel)


async def read_object(request: Request, *, free: Sequence[str] | None = None) -> dict[str, Any]:
    """The body as a JSON object; `free` as with parse_object. Raises Problem 400 or 422."""
    return parse_object(await read_body(request), free=free)


async def read_changes(request: Request) -> dict[str, Any]:
    """What a PATCH is to change. `{}` changes nothing; no body at all is a mistake. Raises Problem 400, 422."""
    body = await read_body(request)
    if not body.strip():
        detail = "is needed: a JSON object with what is to change; what is left out of it stays"
        raise invalid_content([{"detail": detail, "pointer": ""}])
    return parse_object(body)


async def read_model(request: Request, model: type[Body]) -> Body:
    """The body as one of our models; none at all is an empty object. Raises Problem 400, 422."""
    headers = request.headers
    is_empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    return parse_model({} if is_empty else await read_object(request), model)


def parse_model(fields: dict[str, Any], model: type[Body]) -> Body:
    """An object as one of our models. Raises Problem 422."""
    try:
        return model.model_validate(fields)
    except ValidationError as exc:
        raise invalid_content(point_out(exc)) from None


def point_out(exc: ValidationError) -> list[dict[str, str]]:
    """Errors in the caller's terms."""
    return [_reword(error) for error in list_errors(exc)]


def _reword(error: dict[str, str]) -> dict[str, str]:
    return {"detail": reword(error["detail"]), "pointer": error["pointer"]}


async def read_body(request: Request) -> bytes:
    """The whole body. Raises Problem 400 where the connection ends before it does."""
    try:
        return await request.body()
    except ClientDisconnect:
        raise cut_off() from None


def cut_off() -> Problem:
    """Nobody is left to read it; without it, a client that goes away would look like a fault of ours in the log."""
    return Problem(400, "malformed-request", "The connection ended before the body did.")


def parse_object(body: bytes, *, free: Sequence[str] | None = None) -> dict[str, Any]:
    """A JSON object. Raises Problem 400 or 422, also for whole numbers that would be rounded.

    `free`: fields that hold what the sender likes, where those are known and all others are judged; None: any may.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        where = f"line {exc.lineno}, column {exc.colno}" if body else "it is empty"
        raise Problem(400, "malformed-json", f"The body is not JSON ({where}): {exc.msg}.") from None
    if not isinstance(value, dict):
        raise invalid_content([{"detail": "the body must be a JSON object", "pointer": ""}])
    refuse_rounded(body, value.values() if free is None else [value.get(name) for name in free])
    return value


def refuse_rounded(body: bytes, read: Iterable[Any]) -> None:
    """Raises Problem 422 for whole numbers in these values of the body that are not what they were."""
    if rounded := find_rounded(body, read):
        raise invalid_content([{"detail": BEYOND, "pointer": pointer} for pointer in rounded])
