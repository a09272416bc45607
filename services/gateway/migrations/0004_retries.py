"""Who was tried again as whom, and an index of the mails that a filter may choose."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("ALTER TABLE gateway.emails ADD COLUMN retry_of text")
    # Written before the retry is published. The number within the family lets one of two win who ask at once.
    op.execute(
        """
        CREATE TABLE gateway.retries (
            id uuid PRIMARY KEY,
            retry_of uuid NOT NULL,
            root uuid NOT NULL,
            number integer NOT NULL,
            account text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            UNIQUE (root, number))
        """
    )
    op.execute("CREATE INDEX retries_by_original ON gateway.retries (retry_of)")
    op.execute("CREATE INDEX retries_by_age ON gateway.retries (created_at)")
    op.execute(
        """
        CREATE INDEX emails_to_retry ON gateway.emails (account, created_at, id)
        WHERE status IN ('failed', 'partially_sent', 'expired', 'unknown', 'cancelled')
        """
    )


def downgrade() -> None:
    op.execute("DROP INDEX gateway.emails_to_retry")
    op.execute("DROP TABLE gateway.retries")
    op.execute("ALTER TABLE gateway.emails DROP COLUMN retry_of")
