"""The tables of paced bulk mail (R2)."""

from sqlalchemy import (
    ARRAY,
    UUID,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
)

from services.scheduler.pacing.states import BulkState
from services.scheduler.tables import metadata

_TIME = DateTime(timezone=True)

bulk_lane = Table(
    "bulk_lane",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("account", Text, nullable=False),
    Column("kind", Text, nullable=False, comment="batch, mailing, or loose: mail that belongs to neither"),
    Column("name", Text, nullable=False, comment="batch_id, mailing_id, or empty"),
    Column("paused", Boolean, nullable=False),
    Column("cancelled_at", _TIME, comment="what is pending is cancelled, little by little, and nothing leaves"),
    *(Column(state.value, BigInteger, nullable=False, comment="mails in this state") for state in BulkState),
    Column("waiting", Boolean, comment="generated: something is pending"),
    Column("flying", Boolean, comment="generated: something has left and had no result"),
    Column("handed_at", _TIME, comment="when mail last left"),
    Column("result_at", _TIME, comment="when a result last came"),
    Column("rate", Integer, comment="mails a second at most"),
    Column(
        "finish_at", _TIME, comment="of a mailing: from then on nothing leaves, and what has left is not tried any more"
    ),
    Column("tokens", Double, nullable=False, comment="mails that may leave by its rate, as of tokens_at"),
    Column("tokens_at", _TIME, nullable=False),
    Column("flying_since", _TIME, nullable=False, comment="no mail that is queued left before"),
    Column("created_at", _TIME, nullable=False),
    Column("changed_at", _TIME, nullable=False),
)

bulk_content = Table(
    "bulk_content",
    metadata,
    Column("lane", BigInteger, primary_key=True),
    Column("id", UUID, primary_key=True, comment="hash of the body"),
    Column("body", LargeBinary, nullable=False, comment="JSON object: what mails share, unrendered"),
    Column("used_at", _TIME, nullable=False),
)

bulk_mail = Table(
    "bulk_mail",
    metadata,
    Column("id", UUID, primary_key=True, comment="the email id"),
    Column("lane", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("shelf", Text, comment="generated, what indexes go by: p(ending), o(pen), u(nsent); none: queued, sent"),
    Column("number", Integer, nullable=False, comment="its place in its lane, among mails due at the same time"),
    Column("due_at", _TIME, nullable=False),
    Column(
        "expires_at",
        _TIME,
        comment="as it was given; of a mailing its hours' end; once handed out, as published",
    ),
    Column("content", UUID, comment="of bulk_content; none: `own` is a whole mail"),
    Column("own", LargeBinary, comment="JSON object: what is this mail's alone; dropped once it is sent"),
    Column("traceparent", Text),
    Column("attempt", Integer, nullable=False, comment="of the last result"),
    Column("recipient", UUID, comment="of a mailing: he is in it once"),
    Column("round", SmallInteger, nullable=False, comment="of a mailing: its earlier mails to him failed"),
    Column("repeats", SmallInteger, nullable=False, comment="handed out again without a result, under the same id"),
    Column("zone", Text, comment="of a mailing: the recipient's time zone"),
    Column("reason", Text, comment="why it failed, as far as it did"),
    Column(
        "fate", Text, comment="of a mailing, generated: '' queued or sent, '.' pending, else state, a blank and reason"
    ),
    Column("detail", Text, comment="the relay's words, or what was wrong with a template"),
    Column("handed_at", _TIME, comment="when it left; where a result came before it did: when that came"),
    Column("ended_at", _TIME),
)

bulk_window = Table(
    "bulk_window",
    metadata,
    Column("id", SmallInteger, primary_key=True, comment="1: there is one window"),
    Column("size", Integer, nullable=False),
    Column("in_flight", Integer, nullable=False, comment="mails in state queued"),
    Column("rate", Double, nullable=False, comment="results a second, as last measured"),
    Column("latency_s", Double, nullable=False, comment="of a mail that nothing is before"),
    Column("results", Integer, nullable=False, comment="first results since the last measurement"),
    Column("fastest_s", Double, nullable=False, comment="the shortest way of those"),
    Column("measured_at", _TIME, nullable=False),
    Column("heard_at", _TIME, comment="when a result had last come, as of the last look at silent mail"),
    Column("heard_since", _TIME, comment="since when results come without a gap"),
)

bulk_group = Table(
    "bulk_group",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("kind", Text, nullable=False, comment="release: to be published; cancellation: to be told"),
    Column("mails", ARRAY(UUID), nullable=False),
    Column("due_at", _TIME, nullable=False),
    Column("lease_token", UUID),
    Column("lease_until", _TIME),
)
