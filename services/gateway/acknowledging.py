"""What a caller is told where Kafka does not acknowledge what he asked for (P1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from shared.problems import Problem
from shared.publisher import EventTooLarge, OutcomeUnknown, PublishError

MAIL_UNKNOWN = (
    "Kafka has not confirmed the mail in time. It may still be sent under this id: look there before you send it again."
)


@contextmanager
def answer_publish_errors(email_id: UUID, unknown: str) -> Iterator[None]:
    """Turn the publisher's errors into problems. `unknown` says what may still happen to the mail `email_id`."""
    try:
        yield
    except PublishError as exc:
        raise explain(exc, str(email_id), unknown) from exc


def explain(error: PublishError, email_id: str, unknown: str) -> Problem:
    """The problem that such an error is; `unknown` as above."""
    if isinstance(error, EventTooLarge):
        return Problem(413, "too-large", "The mail is larger than Kafka's topic allows.")
    if isinstance(error, OutcomeUnknown):
        return Problem(503, "outcome-unknown", unknown, id=email_id, outcome="unknown")
    return Problem(503, "kafka-unavailable", "Kafka is away. Nothing was written; try again.", outcome="refused")
