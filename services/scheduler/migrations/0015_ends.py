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
    # Nothing leaves after a mailing's end.
    op.execute(
        """
        UPDATE scheduler.bulk_mail AS mail SET expires_at = least(mail.expires_at, lane.finish_at)
        FROM scheduler.bulk_lane AS lane
        WHERE mail.lane = lane.id AND mail.shelf = 'p' AND lane.finish_at IS NOT NULL
        """
    )
    op.execute("ALTER TABLE scheduler.bulk_lane DROP COLUMN finish_at")
