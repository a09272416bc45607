"""A mailing's end is its lane's, not each mail's: moving it is one row, however many mails wait."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.execute("ALTER TABLE scheduler.bulk_lane ADD COLUMN finish_at timestamptz")
    op.execute(
        """
        UPDATE scheduler.bulk_lane AS lane SET finish_at = mailing.finish_at
        FROM scheduler.mailing AS mailing WHERE mailing.lane = lane.id
        """
    )


def downgrade() -> None:
    op.execute("ALTER TABLE scheduler.bulk_lane DROP COLUMN finish_at")
