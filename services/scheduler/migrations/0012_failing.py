"""Recipients a mailing did not reach: an index that only they are in.

It names no state and no reason, not even as a column beside its key: no mail could be changed in place any more
(ADR 0028).
"""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute(
        """
        CREATE INDEX bulk_mail_failing ON scheduler.bulk_mail (lane, recipient)
        WHERE recipient IS NOT NULL AND shelf IN ('o'::"char", 'u'::"char")
        """
    )


def downgrade() -> None:
    op.execute("DROP INDEX scheduler.bulk_mail_failing")
