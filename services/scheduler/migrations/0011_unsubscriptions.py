"""Who gets no mailing any more."""

from alembic import op

revision = "0011"
down_revision = "0010"

_STATEMENTS = (
    """
    CREATE TABLE scheduler.unsubscription (
        recipient uuid PRIMARY KEY,
        account text NOT NULL,
        mailing uuid,
        source text NOT NULL CHECK (source IN ('one-click', 'page', 'manual')),
        unsubscribed_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE INDEX unsubscription_by_account
    ON scheduler.unsubscription (account, unsubscribed_at DESC, recipient DESC)
    """,
    "CREATE INDEX unsubscription_by_mailing ON scheduler.unsubscription (mailing) WHERE mailing IS NOT NULL",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE scheduler.unsubscription")
