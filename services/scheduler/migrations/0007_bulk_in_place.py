"""Bulk mail changes in place: no index holds what changes when a mail is sent (R2, ADR 0028).

An index goes by `shelf`, which a mail that is handed out and sent leaves once, or by columns that stay as they are from
then on. So PostgreSQL writes the end of a mail beside its row and into no index. Writes the table anew.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

_UPGRADE = (
    """
    ALTER TABLE scheduler.bulk_lane ADD COLUMN flying_since timestamptz NOT NULL DEFAULT '-infinity'
    """,
    # A mail a result came of before it had left: found by when it ended so far, from now on by this.
    """
    UPDATE scheduler.bulk_mail SET handed_at = ended_at
    WHERE handed_at IS NULL AND ended_at IS NOT NULL AND state = 'sent'
    """,
    *(f"DROP INDEX scheduler.bulk_mail_{name}" for name in ("pending", "queued", "open", "ended", "unsent")),
    # Room on the page for as many changed rows as it takes until the first are swept from it.
    """
    ALTER TABLE scheduler.bulk_mail SET (fillfactor = 70),
    ADD COLUMN shelf "char" GENERATED ALWAYS AS (CASE
        WHEN state = 'pending' THEN 'p'::"char"
        WHEN state IN ('deferred', 'unknown') THEN 'o'::"char"
        WHEN state NOT IN ('queued', 'sent') THEN 'u'::"char" END) STORED
    """,
    "CREATE INDEX bulk_mail_pending ON scheduler.bulk_mail (lane, due_at, number) WHERE shelf = 'p'",
    "CREATE INDEX bulk_mail_handed ON scheduler.bulk_mail (lane, handed_at) WHERE handed_at IS NOT NULL",
    "CREATE INDEX bulk_mail_open ON scheduler.bulk_mail (expires_at) WHERE shelf = 'o'",
    "CREATE INDEX bulk_mail_unsent ON scheduler.bulk_mail (lane, number) WHERE shelf = 'u'",
)
_DOWNGRADE = (
    *(f"DROP INDEX scheduler.bulk_mail_{name}" for name in ("pending", "handed", "open", "unsent")),
    "ALTER TABLE scheduler.bulk_mail DROP COLUMN shelf, RESET (fillfactor)",
    "ALTER TABLE scheduler.bulk_lane DROP COLUMN flying_since",
    "CREATE INDEX bulk_mail_pending ON scheduler.bulk_mail (lane, due_at, number) WHERE state = 'pending'",
    "CREATE INDEX bulk_mail_queued ON scheduler.bulk_mail (handed_at) WHERE state = 'queued'",
    "CREATE INDEX bulk_mail_open ON scheduler.bulk_mail (expires_at) WHERE state IN ('deferred', 'unknown')",
    "CREATE INDEX bulk_mail_ended ON scheduler.bulk_mail (ended_at) WHERE ended_at IS NOT NULL",
    """
    CREATE INDEX bulk_mail_unsent ON scheduler.bulk_mail (lane, number)
    WHERE state IN ('partially_sent', 'failed', 'expired', 'cancelled')
    """,
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
