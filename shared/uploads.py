"""Uploads that are worked on as they come: how many at once, in what form, and how they end too early."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request

from shared.problems import Problem
from shared.retrying import Unavailable


class UploadSlots:
    """Places for so many uploads at once in one process. `what` they are, for who finds none: `batches`."""

    def __init__(self, places: int, what: str) -> None:
        self._free = places
        self._what = what

    @contextmanager
    def hold(self) -> Iterator[None]:
        """A place for one upload. Raises Problem 503 where there is none."""
        if self._free <= 0:
            raise Problem(503, "overloaded", f"Too many {self._what} are being uploaded. Nothing was done; try again.")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


def refuse_encoded(request: Request) -> None:
    """Raises Problem 415 for a body that would have to be unpacked first."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "unsupported-media-type", "Send the upload uncompressed, without Content-Encoding.")


def explain_end(exc: BaseException) -> str:
    """Why an upload ended before it was whole, in words for who sent it."""
    if isinstance(exc, Problem):
        return exc.detail
    if isinstance(exc, Unavailable):
        return "The database did not answer while the upload was taken in."
    if isinstance(exc, asyncio.CancelledError):
        return "The upload was cut off: the process that took it in has ended."
    return "The upload failed through a fault of ours."
