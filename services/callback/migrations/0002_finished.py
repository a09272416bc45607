"""Finished deliveries by when they were, so that old ones are found without a scan."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("CREATE INDEX delivery_finished ON callback.delivery (finished_at) WHERE state <> 'pending'")


def downgrade() -> None:
    op.execute("DROP INDEX callback.delivery_finished")
