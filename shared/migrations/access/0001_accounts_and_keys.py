"""Accounts and API keys."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE access.accounts (name text PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now())")
    op.execute("INSERT INTO access.accounts (name) VALUES ('default')")
    op.execute(
        """
        CREATE TABLE access.api_keys (
            id uuid PRIMARY KEY,
            account text NOT NULL REFERENCES access.accounts,
            name text NOT NULL,
            hint text NOT NULL,
            digest bytea NOT NULL UNIQUE,
            scopes text[] NOT NULL,
            senders text[] NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            revoked_at timestamptz)
        """
    )
    op.execute("CREATE INDEX api_keys_by_account ON access.api_keys (account, created_at)")
