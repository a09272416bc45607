"""Mailings, and lists of recipients that were uploaded for them."""

from alembic import op

revision = "0009"
down_revision = "0008"

_STATEMENTS = (
    """
    CREATE TABLE scheduler.mailing (
        id uuid PRIMARY KEY,
        account text NOT NULL,
        api_key_id text NOT NULL,
        test boolean NOT NULL,
        name text NOT NULL,
        content jsonb NOT NULL,
        audience jsonb NOT NULL,
        list uuid,
        start_at timestamptz,
        finish_at timestamptz,
        hours jsonb,
        rate integer CHECK (rate > 0),
        unsubscribe boolean NOT NULL,
        state text NOT NULL DEFAULT 'draft'
            CHECK (state IN ('draft', 'scheduled', 'running', 'paused', 'finished', 'cancelled')),
        lane bigint,
        freeze_cursor uuid,
        frozen_at timestamptz,
        recipients bigint NOT NULL DEFAULT 0,
        revision integer NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        changed_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz,
        finished_at timestamptz
    ) WITH (fillfactor = 50)
    """,
    "CREATE INDEX mailing_by_account ON scheduler.mailing (account, created_at DESC, id DESC)",
    "CREATE INDEX mailing_by_list ON scheduler.mailing (list) WHERE list IS NOT NULL",
    """
    CREATE INDEX mailing_open ON scheduler.mailing (start_at, id) WHERE state IN ('scheduled', 'running', 'paused')
    """,
    "CREATE INDEX mailing_ended ON scheduler.mailing (finished_at) WHERE finished_at IS NOT NULL",
    """
    CREATE TABLE scheduler.mailing_list (
        id uuid PRIMARY KEY,
        account text NOT NULL,
        api_key_id text NOT NULL,
        name text,
        state text NOT NULL DEFAULT 'receiving' CHECK (state IN ('receiving', 'ready', 'aborted', 'deleted')),
        detail text,
        rows bigint NOT NULL DEFAULT 0,
        invalid bigint NOT NULL DEFAULT 0,
        duplicates bigint NOT NULL DEFAULT 0,
        recipients bigint NOT NULL DEFAULT 0,
        variables text[] NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT now(),
        seen_at timestamptz NOT NULL DEFAULT now(),
        ready_at timestamptz
    ) WITH (fillfactor = 50)
    """,
    "CREATE INDEX mailing_list_by_account ON scheduler.mailing_list (account, created_at DESC, id DESC)",
    "CREATE INDEX mailing_list_over ON scheduler.mailing_list (id) WHERE state IN ('receiving', 'aborted', 'deleted')",
    # No foreign keys: a list of a million goes little by little, not in one long transaction.
    """
    CREATE TABLE scheduler.mailing_list_entry (
        list uuid NOT NULL,
        recipient uuid NOT NULL,
        number integer NOT NULL,
        address text NOT NULL,
        name text NOT NULL DEFAULT '',
        zone text,
        variables jsonb NOT NULL DEFAULT '{}',
        PRIMARY KEY (list, recipient)
    )
    """,
    # Who is to be forgotten is found in every list.
    "CREATE INDEX mailing_list_entry_by_recipient ON scheduler.mailing_list_entry (recipient)",
    """
    CREATE TABLE scheduler.mailing_list_problem (
        list uuid NOT NULL,
        number integer NOT NULL,
        line integer NOT NULL,
        kind text NOT NULL CHECK (kind IN ('invalid', 'duplicate')),
        field text,
        detail text NOT NULL,
        PRIMARY KEY (list, number)
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("mailing_list_problem", "mailing_list_entry", "mailing_list", "mailing"):
        op.execute(f"DROP TABLE scheduler.{table}")
