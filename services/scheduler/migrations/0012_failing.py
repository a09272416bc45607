"""Recipients a mailing did not reach, by recipient and by reason: an index that only they are in."""

from alembic import op

revision = "0012"
down_revision = "0010"


def upgrade() -> None:
    op.execute(
        """
        CREATE INDEX bulk_mail_failing ON scheduler.bulk_mail (lane, recipient) INCLUDE (state, reason)
        WHERE recipient IS NOT NULL AND shelf IN ('o'::"char", 'u'::"char")
        """
    )


def downgrade() -> None:
    op.execute("DROP INDEX scheduler.bulk_mail_failing")
