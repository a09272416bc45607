"""A mailing and how it stands, as GET /v1/mailings/{id} tells it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class MailingStatus:
    """`state`: draft, scheduled, running, paused, finished, cancelled. `counts`: pending, success, fail, skipped …

    `percent` is None until all recipients have been taken in, and 100 once every mail has its end; `rate` in mails a
    second while it runs. `document` is all that the API has told.
    """

    id: str
    name: str
    state: str
    counts: Mapping[str, int] = field(default_factory=dict)
    percent: float | None = None
    rate: float | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return "finished_at" in self.document

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """From the API's JSON, or an event's."""
        progress = document.get("progress") or {}
        return cls(
            id=str(document["id"]),
            name=str(document["name"]),
            state=str(document["state"]),
            counts=document.get("counts") or {},
            percent=progress.get("percent"),
            rate=progress.get("rate"),
            document=document,
        )
