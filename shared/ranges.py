"""Ranges of time that a list or a count is asked for by `from` and `to`. Pure."""

from datetime import datetime

from shared.problems import Problem, invalid_content


def check_range(since: datetime | None, until: datetime | None) -> None:
    """Raise Problem 422 where `from` is not before `to`."""
    if since and until and since >= until:
        raise refuse_range("must be later than `from`; `from` is included, `to` is not", "to")


def refuse_range(detail: str, name: str) -> Problem:
    """422 that points at the parameter `name`."""
    return invalid_content([{"detail": detail, "pointer": f"/query/{name}"}])
