"""A test mail of a mailing: a mail of its own, as its recipient would read it, that counts nowhere. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from services.scheduler.mailings.mailing import Mailing
from services.scheduler.mailings.variables import LINK
from services.scheduler.waiting.delayed import DelayedMail, Expiry, delay
from shared.access import ApiKey
from shared.events import EmailRequested, derive_run_id, new_email_id
from shared.events.requested import TAG_LIMIT
from shared.problems import Problem

SUBJECT, TAG = "[Test] ", "mailing-test"
_EXPIRY = Expiry(timedelta(hours=1), timedelta(hours=1))


def compose_test(
    mailing: Mailing,
    key: ApiKey,
    address: str,
    variables: Mapping[str, Any],
    now: datetime,
    idempotency_key: str | None,
    event_limit: int,
) -> DelayedMail:
    """A test mail to `address`, due `now`. The same request, made again with its Idempotency-Key, is the same mail.

    No `mailing_id`: that is for mail that counts. Raises Problem 413.
    """
    content = dict(mailing.definition.content)
    path = f"mailings/{mailing.id}/test/{address}"
    mail = EmailRequested.model_validate(
        {
            **content,
            "to": [address],
            "subject": SUBJECT + content["subject"],
            "tags": [*content.get("tags", [])[: TAG_LIMIT - 1], TAG],
            "variables": variables,
            "unsubscribe_url": variables.get(LINK) if mailing.definition.unsubscribe else None,
            "id": derive_run_id(key.account, path, idempotency_key, is_test=key.test)
            if idempotency_key
            else new_email_id(),
            "account": key.account,
            "api_key_id": key.id,
            "test": key.test or mailing.test,
            "requested_at": now,
        }
    )
    size = len(mail.to_json())
    if size > event_limit - 100:
        raise Problem(413, "too-large", f"The mail has {size} bytes as an event.", limit=event_limit)
    return delay(mail, now, None, _EXPIRY, event_limit)
