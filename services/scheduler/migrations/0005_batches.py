"""Batches, what is wrong with their items, and when each is looked at next."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    # Changed every second while it runs: room on the page keeps those changes in it.
    """
    CREATE TABLE scheduler.batch (
        id uuid PRIMARY KEY,
        account text NOT NULL,
        api_key_id text NOT NULL,
        test boolean NOT NULL,
        name text,
        state text NOT NULL DEFAULT 'receiving' CHECK (state IN ('receiving', 'open', 'aborted')),
        detail text,
        lane bigint,
        items integer NOT NULL DEFAULT 0,
        invalid integer NOT NULL DEFAULT 0,
        idempotency_key text,
        fingerprint bytea,
        retry_of uuid,
        created_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz,
        finished_at timestamptz,
        told_at timestamptz,
        rate double precision,
        sampled_at timestamptz,
        sampled_ended bigint NOT NULL DEFAULT 0,
        due_at timestamptz NOT NULL,
        lease_token uuid,
        lease_until timestamptz
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE UNIQUE INDEX batch_by_key ON scheduler.batch (account, idempotency_key) WHERE idempotency_key IS NOT NULL
    """,
    "CREATE UNIQUE INDEX batch_by_original ON scheduler.batch (retry_of) WHERE state <> 'aborted'",
    "CREATE INDEX batch_by_account ON scheduler.batch (account, created_at DESC, id DESC)",
    "CREATE INDEX batch_due ON scheduler.batch (due_at) WHERE told_at IS NULL",
    "CREATE INDEX batch_told ON scheduler.batch (told_at) WHERE told_at IS NOT NULL",
    """
    CREATE TABLE scheduler.batch_problem (
        batch uuid NOT NULL REFERENCES scheduler.batch ON DELETE CASCADE,
        number integer NOT NULL,
        line integer,
        problem bytea NOT NULL,
        PRIMARY KEY (batch, number)
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE scheduler.batch_problem")
    op.execute("DROP TABLE scheduler.batch")
