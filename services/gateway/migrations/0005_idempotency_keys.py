"""What each Idempotency-Key of the last day stands for."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # Written before the mail is published. `status` is that of the answer, null until there is one for good; until
    # then whoever holds `token` may act, and after `lease_until` anybody else who asks the same.
    op.execute(
        """
        CREATE TABLE gateway.idempotency_keys (
            account text NOT NULL,
            key text NOT NULL,
            fingerprint bytea NOT NULL,
            id uuid NOT NULL,
            requested_at timestamptz NOT NULL,
            token uuid NOT NULL,
            lease_until timestamptz NOT NULL,
            tries integer NOT NULL DEFAULT 1,
            status integer,
            location text,
            answer bytea,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (account, key))
        """
    )
    op.execute("CREATE INDEX idempotency_keys_by_age ON gateway.idempotency_keys (created_at)")


def downgrade() -> None:
    op.execute("DROP TABLE gateway.idempotency_keys")
