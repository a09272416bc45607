"""The event contract: models, identities and reading of everything on our four topics.

`wire` the envelope · `identity` derived ids · `requested`, `bulk`, `results`, `ticks` the models · `reading` them.
"""

from shared.events.bulk import BulkEntry, BulkRequested
from shared.events.identity import (
    Namespace,
    derive_batch_entry_id,
    derive_bulk_entry_id,
    derive_event_id,
    derive_record_id,
    make_uuid,
    name_event,
    new_email_id,
)
from shared.events.reading import (
    DEFAULT_EVENT_LIMIT,
    OpenedRecord,
    RefusedValue,
    UnreadableEvent,
    list_errors,
    open_record,
    read_bulk,
    read_cancellation,
    read_email,
    read_model,
)
from shared.events.requested import (
    DEFAULT_ACCOUNT,
    Attachment,
    CallbackSpec,
    CancellationRequested,
    EmailFields,
    EmailRequested,
)
from shared.events.results import (
    Echo,
    EmailFailed,
    EmailRescheduled,
    EmailSent,
    FailedRecipient,
    RecipientOutcome,
    Source,
)
from shared.events.ticks import ScheduleTick
from shared.events.wire import (
    Coordinates,
    EventType,
    WireModel,
    belongs_on,
    build_headers,
    format_time,
    read_header,
    read_timestamp,
)

__all__ = [
    "DEFAULT_ACCOUNT",
    "DEFAULT_EVENT_LIMIT",
    "Attachment",
    "BulkEntry",
    "BulkRequested",
    "CallbackSpec",
    "CancellationRequested",
    "Coordinates",
    "Echo",
    "EmailFailed",
    "EmailFields",
    "EmailRequested",
    "EmailRescheduled",
    "EmailSent",
    "EventType",
    "FailedRecipient",
    "Namespace",
    "OpenedRecord",
    "RecipientOutcome",
    "RefusedValue",
    "ScheduleTick",
    "Source",
    "UnreadableEvent",
    "WireModel",
    "belongs_on",
    "build_headers",
    "derive_batch_entry_id",
    "derive_bulk_entry_id",
    "derive_event_id",
    "derive_record_id",
    "format_time",
    "list_errors",
    "make_uuid",
    "name_event",
    "new_email_id",
    "open_record",
    "read_bulk",
    "read_cancellation",
    "read_email",
    "read_header",
    "read_model",
    "read_timestamp",
]
