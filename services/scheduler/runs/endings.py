"""How an attempt of a run ended, and what follows from it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from services.scheduler.runs.occurrence import OccurrenceState
from shared.due import DueRow
from shared.events import list_errors

RESULT_LIMIT = 64 * 1024  # bytes of JSON
_MESSAGE_LIMIT = 2000
_LONGEST_BACKOFF_S = 86_400.0
_POSTPONED = timedelta(seconds=5)
_anything: TypeAdapter[Any] = TypeAdapter(Any)


@dataclass(frozen=True, slots=True)
class Ending:
    """What is to be written of an attempt. `result`, `error`: JSON. `retry_in`: then it is begun again, None: never.

    `is_failure`: it counts against `max_attempts`. `outcome` is for the metric.
    """

    row: DueRow
    state: OccurrenceState
    outcome: str
    result: str | None = None
    error: str | None = None
    retry_in: timedelta | None = None
    is_failure: bool = False


def succeed(row: DueRow, returned: Any) -> Ending:
    """The job returned. What cannot be kept as its result is a failure that is not repeated: the work is done."""
    try:
        written = _anything.dump_json(returned)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as exc:
        return fail(row, "InvalidResult", f"the job did its work, but what it returned is not JSON: {exc}")
    if len(written) > RESULT_LIMIT:
        told = f"the job did its work, but returned {len(written)} bytes; a result may have {RESULT_LIMIT}"
        return fail(row, "ResultTooLarge", told)
    try:
        orjson.loads(written)  # as everybody does who looks at it: a number may be too large for that
    except orjson.JSONDecodeError as exc:
        return fail(row, "InvalidResult", f"the job did its work, but what it returned cannot be read again: {exc}")
    return Ending(row, OccurrenceState.SUCCEEDED, "succeeded", result=None if returned is None else written.decode())


def fail(row: DueRow, kind: str, message: str, *, retry: bool = False) -> Ending:
    """The attempt failed; with `retry` it is begun again where the run has attempts left."""
    error = _write_error(kind, message)
    failures = row.columns["failures"] + 1
    if retry and failures < row.columns["max_attempts"]:
        backoff = find_backoff(row.columns["backoff_s"], failures)
        return Ending(row, OccurrenceState.FAILED, "retried", error=error, retry_in=backoff, is_failure=True)
    return Ending(row, OccurrenceState.FAILED, "failed", error=error, is_failure=True)


def fail_args(row: DueRow, exc: ValidationError) -> Ending:
    """Its arguments do not fit the job: it would fail again. What they are is not repeated."""
    told = "; ".join(f"{error['pointer'] or '/'}: {error['detail']}" for error in list_errors(exc))
    return fail(row, "InvalidArgs", told)


def skip(row: DueRow, kind: str, message: str) -> Ending:
    """It is not to run any more."""
    return Ending(row, OccurrenceState.SKIPPED, "skipped", error=_write_error(kind, message))


def interrupt(row: DueRow) -> Ending:
    """The process stops: another one begins it again at once."""
    return _begin_again(row, "Interrupted", "its process was stopped", timedelta(0))


def postpone(row: DueRow, why: str) -> Ending:
    """What it needs is away. That is nobody's failure: it comes again for as long as it takes."""
    return _begin_again(row, "Unavailable", why, _POSTPONED)


def _begin_again(row: DueRow, kind: str, message: str, pause: timedelta) -> Ending:
    """Written as failed only where its task has been deleted meanwhile."""
    return Ending(row, OccurrenceState.FAILED, "interrupted", error=_write_error(kind, message), retry_in=pause)


def find_backoff(backoff_s: float, failures: int) -> timedelta:
    """The pause after so many failures: `backoff_s`, doubled each time, a day at most."""
    return timedelta(seconds=min(backoff_s * 2.0 ** min(failures - 1, 40), _LONGEST_BACKOFF_S))


def say(exc: BaseException) -> str:
    """An exception's message; one that cannot even be read ends no more than its own run."""
    try:
        return str(exc)
    except Exception:
        return "its message cannot be read"


def _write_error(kind: str, message: str) -> str:
    readable = message[:_MESSAGE_LIMIT].encode(errors="replace").decode()  # half a surrogate pair is no JSON
    error: Mapping[str, str] = {"class": kind, "message": readable}
    return orjson.dumps(error).decode()
