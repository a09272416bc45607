"""Who gets no mailing any more."""

from sqlalchemy import UUID, Column, DateTime, Index, Table, Text, text

from services.scheduler.tables.schema import metadata

unsubscription = Table(
    "unsubscription",
    metadata,
    Column("recipient", UUID, primary_key=True, comment="no address: its hash, so it outlives an erasure"),
    Column("account", Text, nullable=False),
    Column("mailing", UUID, comment="whose link it was; none: by hand"),
    Column("source", Text, nullable=False, comment="one-click: a mail client; page: a browser; manual: /v1"),
    Column("unsubscribed_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Index("unsubscription_by_account", "account", "unsubscribed_at", "recipient"),
)
