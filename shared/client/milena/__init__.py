"""Milena's Python client.

from milena import Client

with Client() as milena:
    handle = milena.send(from_="no-reply@example.com", to="ann@example.org", subject="Hello", text="Hi")
    print(handle.wait().status)
"""

from milena.aio import AsyncClient
from milena.batches import BatchStatus
from milena.client import Client
from milena.configuration import Configuration, find_configuration
from milena.errors import (
    AlreadyFinal,
    ApiError,
    BatchRefused,
    Conflict,
    ConnectionFailed,
    IdempotencyKeyReused,
    InvalidContent,
    MilenaError,
    NotAllowed,
    NotAuthenticated,
    NotConfigured,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    ScopeMissing,
    SenderNotAllowed,
    StillOnItsWay,
    TooLarge,
    Unavailable,
    WebhookRejected,
)
from milena.handles import AsyncHandle, Handle
from milena.mail import Attachment, Mail, Recipient
from milena.mailing_status import MailingStatus
from milena.retrying import Patience
from milena.status import EmailStatus, Event, RecipientStatus, ScheduledEmail
from milena.version import VERSION as __version__  # noqa: N811
from milena.webhooks import sign_webhook, verify_webhook

__all__ = [
    "AlreadyFinal",
    "ApiError",
    "AsyncClient",
    "AsyncHandle",
    "Attachment",
    "BatchRefused",
    "BatchStatus",
    "Client",
    "Configuration",
    "Conflict",
    "ConnectionFailed",
    "EmailStatus",
    "Event",
    "Handle",
    "IdempotencyKeyReused",
    "InvalidContent",
    "Mail",
    "MailingStatus",
    "MilenaError",
    "NotAllowed",
    "NotAuthenticated",
    "NotConfigured",
    "NotFound",
    "OutcomeUnknown",
    "Patience",
    "RateLimited",
    "Recipient",
    "RecipientStatus",
    "ScheduledEmail",
    "ScopeMissing",
    "SenderNotAllowed",
    "StillOnItsWay",
    "TooLarge",
    "Unavailable",
    "WebhookRejected",
    "__version__",
    "find_configuration",
    "sign_webhook",
    "verify_webhook",
]
