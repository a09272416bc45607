"""The tables of schema `callback`."""

from sqlalchemy import UUID, Column, DateTime, ForeignKey, Index, Integer, LargeBinary, MetaData, Table, Text, text

metadata = MetaData(schema="callback")

delivery = Table(
    "delivery",
    metadata,
    Column("id", UUID, primary_key=True, comment="UUIDv5 of event and URL"),
    Column("account", Text, nullable=False),
    Column("email_id", UUID, nullable=False),
    Column("event_id", UUID, nullable=False, comment="ce_id, sent as webhook-id"),
    Column("type", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("traceparent", Text),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("due_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("finished_at", DateTime(timezone=True)),
    Column("lease_token", UUID),
    Column("lease_until", DateTime(timezone=True)),
    Index("delivery_due", "due_at", postgresql_where=text("state = 'pending'")),
    Index("delivery_finished", "finished_at", postgresql_where=text("state <> 'pending'")),
    Index("delivery_by_email", "email_id"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("delivery_id", UUID, ForeignKey(delivery.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("status", Integer),
    Column("error", Text),
    Column("response", Text, nullable=False, server_default=""),
)
