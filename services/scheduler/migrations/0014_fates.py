"""Recipients of a mailing by what became of them: one index for each question of who got it.

`fate` does not change from queued to sent, nor is there one of mail that is no mailing's: the usual end of a mail is
written in place, as before (ADR 0028). Writes the table anew.
"""

from alembic import op

revision = "0014"
down_revision = "0013"

_UPGRADE = (
    # Byte by byte, so that those that failed are one range. A reason is a word; a longer one must not break the index.
    """
    ALTER TABLE scheduler.bulk_mail ADD COLUMN fate text COLLATE "C" GENERATED ALWAYS AS (CASE
        WHEN recipient IS NULL THEN NULL
        WHEN state IN ('queued', 'sent') THEN ''
        WHEN state = 'pending' THEN '.'
        ELSE state || ' ' || left(coalesce(reason, ''), 100) END) STORED
    """,
    "DROP INDEX scheduler.bulk_mail_failing",
    "CREATE INDEX bulk_mail_fate ON scheduler.bulk_mail (lane, fate, recipient) WHERE fate IS NOT NULL",
)
_DOWNGRADE = (
    "DROP INDEX scheduler.bulk_mail_fate",
    "ALTER TABLE scheduler.bulk_mail DROP COLUMN fate",
    """
    CREATE INDEX bulk_mail_failing ON scheduler.bulk_mail (lane, recipient)
    WHERE recipient IS NOT NULL AND shelf IN ('o'::"char", 'u'::"char")
    """,
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
