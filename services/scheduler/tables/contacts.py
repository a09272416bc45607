"""Contacts, their imports, and what was erased."""

from sqlalchemy import ARRAY, UUID, BigInteger, Column, DateTime, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from services.scheduler.tables.schema import metadata

_TIME = DateTime(timezone=True)

contact = Table(
    "contact",
    metadata,
    Column("id", UUID, primary_key=True, comment="of the recipient: derived from account and folded address"),
    Column("account", Text, nullable=False),
    Column("address", Text, nullable=False, comment="as it was written last"),
    Column("name", Text, nullable=False),
    Column("timezone", Text, comment="IANA name"),
    Column("tags", ARRAY(Text), nullable=False, comment="sorted, each once"),
    Column("attributes", JSONB, nullable=False, comment="an object; no value is null"),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
    Column("changed_at", _TIME, nullable=False, server_default=text("now()")),
    Index("contact_by_account", "account", "id"),
    Index("contact_by_tag", "tags", postgresql_using="gin"),
    Index("contact_by_attribute", "attributes", postgresql_using="gin"),
)

contact_import = Table(
    "contact_import",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("account", Text, nullable=False),
    Column("api_key_id", Text, nullable=False),
    Column("name", Text, comment="of the file, or whatever it is to be found by"),
    Column("state", Text, nullable=False, comment="receiving, finished, aborted"),
    Column("detail", Text, comment="why it was aborted"),
    Column("size", BigInteger, comment="bytes, where the upload said how many"),
    Column("received", BigInteger, nullable=False, comment="bytes"),
    Column("rows", BigInteger, nullable=False, comment="of the file; each is one of the following"),
    Column("created", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("unchanged", BigInteger, nullable=False),
    Column("invalid", BigInteger, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
    Column("seen_at", _TIME, nullable=False, comment="the last sign of life"),
    Column("finished_at", _TIME),
    Index("contact_import_by_account", "account", "created_at", "id"),
)

contact_import_problem = Table(
    "contact_import_problem",
    metadata,
    Column("import", UUID, primary_key=True),
    Column("number", Integer, primary_key=True, comment="of the problem, from 1 on"),
    Column("row", BigInteger, nullable=False),
    Column("line", BigInteger, nullable=False, comment="where the row begins"),
    Column("field", Text, comment="column"),
    Column("detail", Text, nullable=False, comment="never repeats what stands in the row"),
)

erasure = Table(
    "erasure",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("recipient", UUID, nullable=False, comment="no address: its hash"),
    Column("account", Text, nullable=False),
    Column("api_key_id", Text, nullable=False),
    Column("erased_at", _TIME, nullable=False, server_default=text("now()")),
    Column("erased", JSONB, nullable=False, comment='{"place": rows}'),
    Index("erasure_by_account", "account", "erased_at", "id"),
    Index("erasure_by_recipient", "recipient", "erased_at"),
)
