"""Headers of a request, signed per Standard Webhooks. Pure."""

from datetime import datetime
from uuid import UUID

from standardwebhooks import Webhook


def sign(secret: str, event_id: UUID, body: bytes, now: datetime) -> dict[str, str]:
    """`webhook-id`, `-timestamp` and `-signature`. `secret` is `whsec_…`; `now` is in UTC, the attempt's time.

    The receiver refuses old timestamps, so each attempt is signed anew; the id stays, by it repeats are recognised.
    """
    return {
        "webhook-id": str(event_id),
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(str(event_id), now, body.decode()),
    }
