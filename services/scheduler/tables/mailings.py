"""Mailings, and lists of recipients that were uploaded for them; a mailing's mails are rows of paced bulk."""

from sqlalchemy import ARRAY, UUID, BigInteger, Boolean, Column, DateTime, Double, Index, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from services.scheduler.tables.schema import metadata

_TIME = DateTime(timezone=True)

mailing = Table(
    "mailing",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("account", Text, nullable=False),
    Column("api_key_id", Text, nullable=False),
    Column("test", Boolean, nullable=False, comment="made with a test key: its mail is simulated"),
    Column("name", Text, nullable=False),
    Column("content", JSONB, nullable=False, comment="from, subject, text, html …, as they were written: templates"),
    Column("audience", JSONB, nullable=False, comment='{"tags": …, "attributes": …}; with a list: {}'),
    Column("list", UUID, comment="of mailing_list; none: contacts"),
    Column("start_at", _TIME, comment="none: once it is started"),
    Column("finish_at", _TIME, comment="nothing leaves any more"),
    Column("hours", JSONB, comment='{"from": "09:00", "to": "18:00", "timezone": …}, on the recipient\'s clock'),
    Column("rate", Integer, comment="mails a second at most"),
    Column("unsubscribe", Boolean, nullable=False, comment="with List-Unsubscribe (RFC 8058)"),
    Column("state", Text, nullable=False, comment="draft, scheduled, running, paused, finished, cancelled"),
    Column("lane", BigInteger, comment="of bulk_lane, from its start on"),
    Column("freeze_cursor", UUID, comment="the last recipient whose row there is"),
    Column("frozen_at", _TIME, comment="every recipient has a row"),
    Column("recipients", BigInteger, nullable=False, comment="rows so far"),
    Column("freeze_erasures", Integer, nullable=False, comment="who has read a portion before one writes nothing"),
    Column("freeze_until", _TIME, comment="then somebody else may"),
    Column("retry_before", _TIME, comment="mails that failed before are to be tried again; none: nobody has asked"),
    Column("retry_unknown", Boolean, nullable=False, comment="those the relay may have, too"),
    Column("reasons", JSONB, comment="once it is over: why how many failed, [{state, reason, mails}]"),
    Column("recipients_deleted_at", _TIME, comment="from then on the rows of its recipients go; its counts stay"),
    Column("revision", Integer, nullable=False, comment="one more with every change of what is above `state`"),
    Column("created_at", _TIME, nullable=False),
    Column("changed_at", _TIME, nullable=False),
    Column("started_at", _TIME),
    Column("finished_at", _TIME, comment="finished or cancelled, and every mail has its end"),
    Column("told_at", _TIME, comment="when mailing.finished was acknowledged; none again once it is tried again"),
    Column("pace", Double, comment="mails a second that have had their end, smoothed"),
    Column("sampled_at", _TIME),
    Column("sampled_ended", BigInteger, nullable=False, comment="mails that had an end then"),
    Column("due_at", _TIME, nullable=False, comment="when it is looked at next"),
    Column("lease_token", UUID),
    Column("lease_until", _TIME),
    Index("mailing_by_account", "account", "created_at", "id"),
)

mailing_list = Table(
    "mailing_list",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("account", Text, nullable=False),
    Column("api_key_id", Text, nullable=False),
    Column("name", Text),
    Column("state", Text, nullable=False, comment="receiving, ready, aborted, deleted"),
    Column("detail", Text, comment="why it was aborted"),
    Column("rows", BigInteger, nullable=False, comment="of the upload; each is one of the following"),
    Column("invalid", BigInteger, nullable=False),
    Column("duplicates", BigInteger, nullable=False, comment="of a recipient that a row before has"),
    Column("recipients", BigInteger, nullable=False),
    Column("variables", ARRAY(Text), nullable=False, comment="names, sorted; as many as are told"),
    Column("created_at", _TIME, nullable=False),
    Column("seen_at", _TIME, nullable=False, comment="the upload's last sign of life"),
    Column("ready_at", _TIME, comment="it was whole; from then on it never changes"),
    Index("mailing_list_by_account", "account", "created_at", "id"),
)

mailing_list_entry = Table(
    "mailing_list_entry",
    metadata,
    Column("list", UUID, primary_key=True),
    Column("recipient", UUID, primary_key=True, comment="derived from account and folded address, as a contact's id"),
    Column("number", Integer, nullable=False, comment="of the row"),
    Column("address", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("zone", Text, comment="IANA name"),
    Column("variables", JSONB, nullable=False, comment="an object; no value is null"),
    Index("mailing_list_entry_by_recipient", "recipient"),
)

mailing_list_problem = Table(
    "mailing_list_problem",
    metadata,
    Column("list", UUID, primary_key=True),
    Column("number", Integer, primary_key=True, comment="of the row"),
    Column("line", Integer, nullable=False, comment="where the row begins"),
    Column("kind", Text, nullable=False, comment="invalid: it is no recipient; duplicate: it has one already"),
    Column("field", Text, comment="column"),
    Column("detail", Text, nullable=False, comment="never repeats what stands in the row"),
)
