"""Ledger, due mail, kept cancellations, suppressed addresses."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE sender.ledger (
            id uuid PRIMARY KEY,
            account text NOT NULL,
            digest text NOT NULL,
            message_id text NOT NULL,
            echo json NOT NULL,
            recipient_count integer NOT NULL,
            accepted_at timestamptz NOT NULL,
            expires_at timestamptz NOT NULL,
            state text NOT NULL,
            attempt integer NOT NULL DEFAULT 1,
            unknowns smallint NOT NULL DEFAULT 0,
            token uuid,
            lease_until timestamptz,
            retry_at timestamptz,
            results json NOT NULL DEFAULT '[]',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        ) WITH (fillfactor = 50)
        """  # half-empty pages: the settle then updates in place (HOT), without touching the index
    )
    op.execute(
        """
        CREATE TABLE sender.due (
            id uuid PRIMARY KEY,
            kind text NOT NULL,
            due_at timestamptz NOT NULL,
            lease_token uuid,
            lease_until timestamptz,
            announced boolean NOT NULL DEFAULT false,
            event bytea NOT NULL,
            accepted_at timestamptz NOT NULL,
            traceparent text
        )
        """
    )
    op.execute("CREATE INDEX due_by_time ON sender.due (due_at)")
    op.execute(
        """
        CREATE TABLE sender.cancellation (
            id uuid, account text, until timestamptz NOT NULL, PRIMARY KEY (id, account))
        """
    )
    op.execute(
        """
        CREATE TABLE sender.suppression (
            account text, address text, reason text NOT NULL, until timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (account, address))
        """
    )
