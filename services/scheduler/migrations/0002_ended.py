"""Rows that have ended by when they did, and cancellations by how long they are kept, so that old ones are found."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(
        "CREATE INDEX delayed_ended ON scheduler.delayed ((coalesce(released_at, announced_at)))"
        " WHERE state IN ('released', 'cancelled')"
    )
    op.execute("CREATE INDEX cancellation_by_end ON scheduler.cancellation (keep_until)")


def downgrade() -> None:
    op.execute("DROP INDEX scheduler.cancellation_by_end")
    op.execute("DROP INDEX scheduler.delayed_ended")
