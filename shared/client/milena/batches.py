"""A batch and how it stands, as GET /v1/batches/{id} tells it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from milena.mail import Mail, compose

BatchChange = Literal["pause", "resume", "cancel", "retry"]


@dataclass(frozen=True)
class BatchStatus:
    """`counts` by state: accepted, invalid, pending, handed_out, deferred, sent, failed …

    `percent` is 100 once every mail has its end. `problems` are the first bad items, of a batch just uploaded.
    """

    id: str
    state: str
    counts: Mapping[str, int] = field(default_factory=dict)
    percent: float = 0.0
    rate: float | None = None
    problems: tuple[Mapping[str, Any], ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state == "aborted" or self.percent >= 100

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """From the API's JSON: of a batch, or the answer to an upload."""
        counts = document.get("counts") or {name: document[name] for name in ("accepted", "invalid")}
        return cls(
            id=str(document["id"]),
            state=str(document["state"]),
            counts=counts,
            percent=float(document.get("percent", 0.0)),
            rate=document.get("rate"),
            problems=tuple(document.get("problems", ())),
            document=document,
        )


def write_items(
    mails: Iterable[Mail | Mapping[str, Any]], content: Mail | Mapping[str, Any] | None
) -> Iterator[Mapping[str, Any]]:
    """What is uploaded: the common content first."""
    if content is not None:
        yield {"content": compose(content)}
    for mail in mails:
        yield compose(mail)


def write_params(name: str | None, all_or_nothing: bool) -> dict[str, str]:
    """What is said beside it."""
    return {**({"name": name} if name else {}), **({"all_or_nothing": "true"} if all_or_nothing else {})}
