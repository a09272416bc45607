"""Mail that waits for its time, and cancellations that are kept."""

from sqlalchemy import UUID, Column, DateTime, Index, Integer, LargeBinary, Table, Text, text

from services.scheduler.tables.schema import metadata

delayed = Table(
    "delayed",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("account", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("event", LargeBinary, comment="as it will be published; dropped when nobody needs it any more"),
    Column("traceparent", Text),
    Column("expires_at", DateTime(timezone=True), comment="as the publisher named it; absent: counted from due_at"),
    Column("bulk_id", UUID, comment="of a bulk event, whose row has an id that is nobody's"),
    Column("mail_count", Integer, comment="of a bulk event"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("rescheduled_at", DateTime(timezone=True)),
    Column("released_at", DateTime(timezone=True)),
    Column("cancelled_at", DateTime(timezone=True)),
    Column("announced_at", DateTime(timezone=True), comment="when the cancellation's email.failed was acknowledged"),
    Column("lease_token", UUID),
    Column("lease_until", DateTime(timezone=True)),
    Index(
        "delayed_ended",
        text("coalesce(released_at, announced_at)"),
        postgresql_where=text("state IN ('released', 'cancelled')"),
    ),
    Index("delayed_due", "due_at", postgresql_where=text("state IN ('pending', 'releasing')")),
    Index("delayed_listed", "account", "state", "due_at", "id"),
)

announcement = Table(
    "announcement",
    metadata,
    Column("id", UUID, primary_key=True, server_default=text("gen_random_uuid()")),
    Column("mail_id", UUID, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, comment="when it happened"),
    Column("send_at", DateTime(timezone=True), comment="the new one"),
    Column("due_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("lease_token", UUID),
    Column("lease_until", DateTime(timezone=True)),
    Index("announcement_due", "due_at"),
)

cancellation = Table(
    "cancellation",
    metadata,
    Column("account", Text, primary_key=True),
    Column("id", UUID, primary_key=True, comment="of the mail"),
    Column("keep_until", DateTime(timezone=True), nullable=False),
    Index("cancellation_by_end", "keep_until"),
)
