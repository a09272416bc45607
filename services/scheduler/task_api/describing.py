"""What the documentation of the task API says of answers that are no success."""

from typing import Any

from shared.apidocs import describe_problems

_MEANINGS = {
    403: "The key lacks the scope `tasks:admin`, may not send from that sender, or is a test key; `type` says which",
    404: "There is no such thing in this account",
    409: "Another task has the name, or the task still runs and is not to overlap; `type` says which",
    422: "Some fields are not acceptable, in themselves or together; `errors` points at each",
}
_FAILURE = {"$ref": "#/components/schemas/FailureEnvelope"}
_EXAMPLE = {
    "data": None,
    "error": {
        "type": "/problems/invalid-content",
        "title": "Invalid content",
        "status": 422,
        "detail": "Some fields are not acceptable; see errors.",
        "request_id": "8f14e45fceea167a5a36dedd4bea2543",
        "errors": [{"detail": "is needed", "pointer": "/args/subject"}],
    },
    "success": False,
}

Described = dict[int | str, dict[str, Any]]


def describe_answers(*statuses: int) -> Described:
    """The `responses` of a route for these statuses."""
    described = describe_problems(*statuses)
    for status, meaning in _MEANINGS.items():
        if status in described:
            described[status]["description"] = meaning
    return described


def describe_envelopes(*statuses: int) -> Described:
    """The same for a route that answers in an envelope; with those that are answered around it."""
    described = describe_answers(400, 401, 403, 413, 422, 429, 503, *statuses)
    for status, answer in described.items():
        example = {"example": _EXAMPLE} if status == 422 else {}
        answer["content"] = {"application/json": {"schema": _FAILURE, **example}}
    return described
