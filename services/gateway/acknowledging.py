"""What a caller is told where Kafka does not acknowledge what he asked for (P1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from shared.problems import Problem
from shared.publisher import EventTooLarge, OutcomeUnknown, PublisherUnavailable


@contextmanager
def answer_publish_errors(email_id: UUID, unknown: str) -> Iterator[None]:
    """Turn the publisher's errors into problems. `unknown` says what may still happen to the mail `email_id`."""
    try:
        yield
    except EventTooLarge as exc:
        raise Problem(413, "too-large", "The mail is larger than Kafka's topic allows.") from exc
    except PublisherUnavailable as exc:
        detail = "Kafka is away. Nothing was written; try again."
        raise Problem(503, "kafka-unavailable", detail, outcome="refused") from exc
    except OutcomeUnknown as exc:
        raise Problem(503, "outcome-unknown", unknown, id=str(email_id), outcome="unknown") from exc
