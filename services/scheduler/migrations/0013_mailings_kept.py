"""Mailings keep their counts, and why mail failed, when the rows of their recipients are gone."""

from alembic import op

revision = "0013"
down_revision = "0012"

_UPGRADE = (
    "ALTER TABLE scheduler.mailing ADD COLUMN reasons jsonb, ADD COLUMN recipients_deleted_at timestamptz",
    # Whose a lane is: a mailing's is kept as long as the mailing.
    "CREATE UNIQUE INDEX mailing_by_lane ON scheduler.mailing (lane) WHERE lane IS NOT NULL",
)
_DOWNGRADE = (
    "DROP INDEX scheduler.mailing_by_lane",
    "ALTER TABLE scheduler.mailing DROP COLUMN reasons, DROP COLUMN recipients_deleted_at",
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
