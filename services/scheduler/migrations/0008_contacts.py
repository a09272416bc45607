"""Contacts, their imports, and what was erased."""

from alembic import op

revision = "0008"
down_revision = "0007"

_STATEMENTS = (
    """
    CREATE TABLE scheduler.contact (
        id uuid PRIMARY KEY,
        account text NOT NULL,
        address text NOT NULL,
        name text NOT NULL DEFAULT '',
        timezone text,
        tags text[] NOT NULL DEFAULT '{}',
        attributes jsonb NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT now(),
        changed_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # An audience is read by account and id, portion by portion; one that few belong to is found by tag or attribute.
    "CREATE INDEX contact_by_account ON scheduler.contact (account, id)",
    "CREATE INDEX contact_by_tag ON scheduler.contact USING gin (tags)",
    "CREATE INDEX contact_by_attribute ON scheduler.contact USING gin (attributes jsonb_path_ops)",
    """
    CREATE TABLE scheduler.contact_import (
        id uuid PRIMARY KEY,
        account text NOT NULL,
        api_key_id text NOT NULL,
        name text,
        state text NOT NULL DEFAULT 'receiving' CHECK (state IN ('receiving', 'finished', 'aborted')),
        detail text,
        size bigint,
        received bigint NOT NULL DEFAULT 0,
        rows bigint NOT NULL DEFAULT 0,
        created bigint NOT NULL DEFAULT 0,
        changed bigint NOT NULL DEFAULT 0,
        unchanged bigint NOT NULL DEFAULT 0,
        invalid bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        seen_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz
    ) WITH (fillfactor = 50)
    """,
    "CREATE INDEX contact_import_by_account ON scheduler.contact_import (account, created_at DESC, id DESC)",
    "CREATE INDEX contact_import_by_age ON scheduler.contact_import (created_at)",
    """
    CREATE TABLE scheduler.contact_import_problem (
        import uuid NOT NULL REFERENCES scheduler.contact_import ON DELETE CASCADE,
        number integer NOT NULL,
        row bigint NOT NULL,
        line bigint NOT NULL,
        field text,
        detail text NOT NULL,
        PRIMARY KEY (import, number)
    )
    """,
    """
    CREATE TABLE scheduler.erasure (
        id uuid PRIMARY KEY,
        recipient uuid NOT NULL,
        account text NOT NULL,
        api_key_id text NOT NULL,
        erased_at timestamptz NOT NULL DEFAULT now(),
        erased jsonb NOT NULL
    )
    """,
    "CREATE INDEX erasure_by_account ON scheduler.erasure (account, erased_at DESC, id DESC)",
    "CREATE INDEX erasure_by_recipient ON scheduler.erasure (recipient, erased_at DESC)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("erasure", "contact_import_problem", "contact_import", "contact"):
        op.execute(f"DROP TABLE scheduler.{table}")
