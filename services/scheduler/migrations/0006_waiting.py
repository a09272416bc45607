"""Delayed mail can be listed, moved to another time and cancelled over HTTP; what happened to it is told from rows."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("delayed", sa.Column("expires_at", _TIME), schema="scheduler")
    op.add_column("delayed", sa.Column("rescheduled_at", _TIME), schema="scheduler")
    op.add_column("delayed", sa.Column("bulk_id", sa.UUID), schema="scheduler")
    op.add_column("delayed", sa.Column("mail_count", sa.Integer), schema="scheduler")
    # Of rows from before nobody can tell whether the publisher named their expiry, so it stays as it is.
    op.execute(
        "UPDATE scheduler.delayed SET expires_at = (convert_from(event, 'UTF8')::json ->> 'expires_at')::timestamptz"
        " WHERE state = 'pending'"
    )
    op.execute("CREATE INDEX delayed_listed ON scheduler.delayed (account, state, due_at, id)")
    op.create_table(
        "announcement",
        sa.Column("id", sa.UUID, primary_key=True, server_default=sa.text("gen_random_uuid()")),
        sa.Column("mail_id", sa.UUID, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("send_at", _TIME),
        sa.Column("due_at", _TIME, nullable=False, server_default=sa.text("now()")),
        sa.Column("lease_token", sa.UUID),
        sa.Column("lease_until", _TIME),
        sa.CheckConstraint("kind IN ('cancelled', 'rescheduled')", name="announcement_kind"),
        schema="scheduler",
    )
    op.execute("CREATE INDEX announcement_due ON scheduler.announcement (due_at)")
    op.execute(
        "INSERT INTO scheduler.announcement (mail_id, kind, at) SELECT id, 'cancelled', cancelled_at"
        " FROM scheduler.delayed WHERE state = 'cancelled' AND announced_at IS NULL"
    )


def downgrade() -> None:
    op.drop_table("announcement", schema="scheduler")
    op.execute("DROP INDEX scheduler.delayed_listed")
    for name in ("mail_count", "bulk_id", "rescheduled_at", "expires_at"):
        op.drop_column("delayed", name, schema="scheduler")
