"""Mailings are looked at while they run, and their end is told: when next, and what was seen last."""

from alembic import op

revision = "0016"
down_revision = "0015"

_UPGRADE = (
    """
    ALTER TABLE scheduler.mailing
        ADD COLUMN pace double precision,
        ADD COLUMN sampled_at timestamptz,
        ADD COLUMN sampled_ended bigint NOT NULL DEFAULT 0,
        ADD COLUMN told_at timestamptz,
        ADD COLUMN due_at timestamptz NOT NULL DEFAULT now(),
        ADD COLUMN lease_token uuid,
        ADD COLUMN lease_until timestamptz
    """,
    # What ended before there was anything to tell it with.
    "UPDATE scheduler.mailing SET told_at = finished_at WHERE finished_at IS NOT NULL",
    """
    CREATE INDEX mailing_due ON scheduler.mailing (due_at)
    WHERE told_at IS NULL AND state NOT IN ('draft', 'scheduled')
    """,
)
_COLUMNS = ("pace", "sampled_at", "sampled_ended", "told_at", "due_at", "lease_token", "lease_until")


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP INDEX scheduler.mailing_due")
    op.execute(f"ALTER TABLE scheduler.mailing {', '.join(f'DROP COLUMN {each}' for each in _COLUMNS)}")
