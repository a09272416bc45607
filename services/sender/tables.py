"""The sender's schema (SQLAlchemy Core), for migrations and readers; statements are in store.py.

JSON is kept as `json`, not `jsonb`: it is never searched, and jsonb refuses the \\u0000 that a caller's metadata may
hold.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)

SCHEMA = "sender"
metadata = MetaData(schema=SCHEMA)

ledger = Table(
    "ledger",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("echo", JSON, nullable=False),
    Column("recipient_count", Integer, nullable=False),
    Column("accepted_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("unknowns", SmallInteger, nullable=False, server_default="0"),
    Column("token", Uuid),
    Column("lease_until", DateTime(timezone=True)),
    Column("retry_at", DateTime(timezone=True)),
    Column("results", JSON, nullable=False, server_default="[]"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("ledger_by_age", "created_at"),
)

# Mail that waits for its next attempt (deferred), for somebody else's claim to end (parked), for an operator (held), or
# for a pause to end (paused): of an account, of a tag of it, or of everything (both empty); `resume_at` is its time
# then. `intent` is what an operator wants done with a held one; `test` says that it needs no relay.
due = Table(
    "due",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("lease_token", Uuid),
    Column("lease_until", DateTime(timezone=True)),
    Column("announced", Boolean, nullable=False, server_default="false"),
    Column("event", LargeBinary, nullable=False),
    Column("accepted_at", DateTime(timezone=True), nullable=False),
    Column("traceparent", Text),
    Column("size", Integer, Computed("octet_length(event)", persisted=True)),
    Column("paused_account", Text),
    Column("paused_tag", Text),
    Column("resume_at", DateTime(timezone=True)),
    Column("intent", Text),
    Column("intent_note", Text),
    Column("test", Boolean, nullable=False, server_default="false"),
    Index("due_by_time", "due_at"),
    Index("due_by_kind", "kind", "size", postgresql_where=text("kind <> 'paused'")),
    Index(
        "due_paused",
        "paused_account",
        "paused_tag",
        "resume_at",
        postgresql_include=["size"],
        postgresql_where=text("paused_account IS NOT NULL"),
    ),
    Index("due_decided", "due_at", postgresql_where=text("intent IS NOT NULL")),
    Index("due_test", "due_at", postgresql_where=text("test")),
    Index("due_held", "accepted_at", "id", postgresql_where=text("kind = 'held'")),
)

# What is paused: an account, a tag of one, or everything (both empty).
pause = Table(
    "pause",
    metadata,
    Column("account", Text, primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("paused_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("paused_by", Text, nullable=False),
)

# What operators have decided on mail of unknown outcome; `attempt` is the one it was about.
decision = Table(
    "decision",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("intent", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("decided_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("decided_by", Text, nullable=False),
    Index("decision_by_age", "decided_at"),
)

# A cancellation is kept for 24 h, in case it came before its mail (R7).
cancellation = Table(
    "cancellation",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("until", DateTime(timezone=True), nullable=False),
    Index("cancellation_by_end", "until"),
)

# Addresses that must not be written to; checked in the claim statement.
suppression = Table(
    "suppression",
    metadata,
    Column("account", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("until", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("suppression_by_address", "address", "account"),
    Index("suppression_by_end", "until", postgresql_where=text("until IS NOT NULL")),
)

# Who reads a partition, and which record is suspected of ending its readers (R4).
reading = Table(
    "reading",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("holder", Uuid),
    Column("suspect", BigInteger),
    Column("deaths", Integer, nullable=False, server_default="0"),
    Column("trying", BigInteger),
    Column("careful_until", BigInteger, nullable=False, server_default="-1"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

# What operators have decided on records that were held.
verdict = Table(
    "verdict",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("verdict", Text, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

# What all processes together may ask of a relay; its row is locked while a share of it is taken.
relay = Table(
    "relay",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("connections", Integer, nullable=False),
    Column("mails_per_second", Double),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

# One process's share of a relay, and how the relay is doing as seen from there; written every second.
relay_share = Table(
    "relay_share",
    metadata,
    Column("relay", Text, primary_key=True),
    Column("process", Uuid, primary_key=True),
    Column("slot", Integer, nullable=False),
    Column("lease_until", DateTime(timezone=True), nullable=False),
    Column("connections", Integer, nullable=False),
    Column("wanted_connections", Integer, nullable=False),
    Column("rate", Double),
    Column("wanted_rate", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("error", Text),
    Column("open_connections", Integer, nullable=False),
    Column("sent_rate", Double, nullable=False),
    Column("slowed_to", Double),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
