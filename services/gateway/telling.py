"""The answer to a request for many mails: what became of each, in order."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import Response

from services.gateway.acknowledging import MAIL_UNKNOWN, explain
from services.gateway.idempotency import StillOpen
from shared.problems import Problem
from shared.publisher import PublishError

Result = dict[str, Any]
"""`{"id", "status": "queued"}` or `{"problem": {…}}`."""


def answer(batch_id: str, results: Sequence[Result], *, is_open: bool) -> Response | StillOpen:
    """202 with the results; `is_open`: asked again, it may be another.

    Raises Problem 503 where none was accepted, and some may have been.
    """
    counts = Counter(map(_class, results))
    if not counts["accepted"]:
        detail = "Kafka has not confirmed any of the mails in time. They may still be sent under the ids in `results`."
        raise Problem(503, "outcome-unknown", detail, outcome="unknown", batch_id=batch_id, results=results)
    told = {name: counts[name] for name in ("accepted", "refused", "unknown")}
    body = orjson.dumps({"batch_id": batch_id, **told, "results": results})
    response = Response(body, 202, media_type="application/json")
    return StillOpen(response) if is_open else response


def show_end(email_id: str, end: PublishError | None) -> Result:
    """What became of a mail that was published, or was to be."""
    return show_problem(explain(end, email_id, MAIL_UNKNOWN)) if end else {"id": email_id, "status": "queued"}


def show_problem(problem: Problem) -> Result:
    """A mail that is not accepted."""
    return {"problem": problem.to_document()}


def _class(result: Result) -> str:
    problem = result.get("problem")
    if problem is None:
        return "accepted"
    return "unknown" if problem.get("outcome") == "unknown" else "refused"
