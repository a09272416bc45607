"""Mail that waits for its time, and cancellations that are kept."""

from sqlalchemy import UUID, Column, DateTime, Index, LargeBinary, Table, Text, text

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
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
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
)

cancellation = Table(
    "cancellation",
    metadata,
    Column("account", Text, primary_key=True),
    Column("id", UUID, primary_key=True, comment="of the mail"),
    Column("keep_until", DateTime(timezone=True), nullable=False),
    Index("cancellation_by_end", "keep_until"),
)
