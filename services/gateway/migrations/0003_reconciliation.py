"""What the last reconcile found, and an index of the mails that wait."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # One row: the last run. Its times may be PostgreSQL's, for it is no mail.
    op.execute(
        """
        CREATE TABLE gateway.reconciliation (
            last boolean PRIMARY KEY DEFAULT true CHECK (last),
            started_at timestamptz NOT NULL,
            accepted bigint NOT NULL,
            faults bigint NOT NULL,
            states jsonb NOT NULL)
        """
    )
    # greatest() passes over a send_at that is not there.
    op.execute(
        """
        CREATE INDEX emails_waiting ON gateway.emails (greatest(created_at, send_at))
        WHERE status IN ('queued', 'scheduled', 'deferred')
        """
    )
