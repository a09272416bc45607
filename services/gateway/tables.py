"""The read model's tables.

`emails` one row per mail, `timeline` one row per thing that happened to it; both partitioned by `bucket`, a day that
follows from the mail's id wherever it can (services/gateway/buckets.py). `locator` has the bucket of every other id.
`retries` has who was tried again as whom; it is written before the retry is published.
`idempotency_keys` has what was answered under each key of the last day; it is written before the mail is published.
`labels` and `tallies` follow from `emails`, whose triggers keep them (docs/adr/0022-lists-and-counts-by-triggers.md):
by what a mail is found that has several of it, and how many mails of an account, a tag and a span have each status.
No table holds a body.
"""

from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, Integer, MetaData, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from shared.states import MailStatus

SCHEMA = "gateway"
_metadata = MetaData(schema=SCHEMA)
_TIME = DateTime(timezone=True)

emails = Table(
    "emails",
    _metadata,
    Column("bucket", Date, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("version", Integer, nullable=False),  # counts writes; a write based on an older one is repeated
    Column("account", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("recipients", JSONB, nullable=False),
    Column("message_id", Text),
    # of the request that counts
    Column("digest", Text),
    Column("api_key_id", Text),
    Column("sender", Text),
    Column("addressees", JSONB),
    Column("subject", Text),
    Column("tags", ARRAY(Text)),
    Column("metadata", JSONB),
    Column("mailing_id", Text),
    Column("batch_id", Text),
    Column("retry_of", Text),
    Column("send_at", _TIME),
    Column("expires_at", _TIME),
    Column("test", Boolean),
    Column("requested_at", _TIME),
    Column("recorded_at", _TIME),
    Column("topic", Text),
    Column("partition", Integer),
    Column("offset", BigInteger),
    # what merging needs to know
    Column("ledger_digest", Text),
    Column("rivals", JSONB),
    Column("held", Boolean, nullable=False),
    Column("released", Boolean, nullable=False),
    Column("refused", Boolean, nullable=False),
    Column("completed", Boolean, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("updated_at", _TIME, nullable=False),
)

timeline = Table(
    "timeline",
    _metadata,
    Column("bucket", Date, primary_key=True),
    Column("email_id", Uuid, primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    Column("type", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("at", _TIME, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("data", JSONB, nullable=False),
)

locator = Table(
    "locator",
    _metadata,
    Column("id", Uuid, primary_key=True),
    Column("bucket", Date, nullable=False),
)

labels = Table(
    "labels",
    _metadata,
    Column("created_at", _TIME, nullable=False),
    Column("id", Uuid, nullable=False),
    Column("bucket", Date, nullable=False),
    Column("account", Text, nullable=False),
    Column("kind", Text, nullable=False),  # recipient or tag
    Column("value", Text, nullable=False),
)

tallies = Table(
    "tallies",
    _metadata,
    Column("account", Text, primary_key=True),
    Column("tag", Text, primary_key=True),  # '' for all mails of the account
    Column("resolution", Text, primary_key=True),
    Column("start", _TIME, primary_key=True),
    *(Column(status.value, Integer, nullable=False) for status in MailStatus),
)
