"""The tables of batches; their mails are in those of paced bulk."""

from sqlalchemy import (
    UUID,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    Table,
    Text,
)

from services.scheduler.tables import metadata

_TIME = DateTime(timezone=True)

batch = Table(
    "batch",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("account", Text, nullable=False),
    Column("api_key_id", Text, nullable=False),
    Column("test", Boolean, nullable=False),
    Column("name", Text),
    Column("state", Text, nullable=False, comment="receiving, open, aborted; what an open one does, its lane says"),
    Column("detail", Text, comment="why it was aborted"),
    Column("lane", BigInteger, comment="of bulk_lane"),
    Column("items", Integer, nullable=False, comment="of the upload, bad ones too"),
    Column("invalid", Integer, nullable=False),
    Column("idempotency_key", Text, comment="none once the batch is aborted"),
    Column("fingerprint", LargeBinary, comment="of the upload"),
    Column("retry_of", UUID, comment="the batch whose failed mails these are"),
    Column("created_at", _TIME, nullable=False),
    Column("started_at", _TIME),
    Column("finished_at", _TIME, comment="when every mail had its end"),
    Column("told_at", _TIME, comment="when batch.finished was acknowledged; aborted: when its mails were deleted"),
    Column("rate", Double, comment="mails a second, smoothed"),
    Column("sampled_at", _TIME),
    Column("sampled_ended", BigInteger, nullable=False, comment="mails that had an end then"),
    Column("due_at", _TIME, nullable=False, comment="receiving: when it is given up unless more comes"),
    Column("lease_token", UUID),
    Column("lease_until", _TIME),
)

batch_problem = Table(
    "batch_problem",
    metadata,
    Column("batch", UUID, ForeignKey(batch.c.id), primary_key=True),
    Column("number", Integer, primary_key=True, comment="of the item"),
    Column("line", Integer),
    Column("problem", LargeBinary, nullable=False, comment="problem document (JSON)"),
)
