"""Delayed mail and kept cancellations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "delayed",
        sa.Column("id", sa.UUID, primary_key=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("due_at", _TIME, nullable=False),
        sa.Column("event", sa.LargeBinary),
        sa.Column("traceparent", sa.Text),
        sa.Column("created_at", _TIME, nullable=False, server_default=sa.text("now()")),
        sa.Column("released_at", _TIME),
        sa.Column("cancelled_at", _TIME),
        sa.Column("announced_at", _TIME),
        sa.Column("lease_token", sa.UUID),
        sa.Column("lease_until", _TIME),
        sa.CheckConstraint("state IN ('pending', 'releasing', 'released', 'cancelled')", name="delayed_state"),
        schema="scheduler",
    )
    op.create_index(
        "delayed_due",
        "delayed",
        ["due_at"],
        schema="scheduler",
        postgresql_where=sa.text("state IN ('pending', 'releasing')"),
    )
    op.create_table(
        "cancellation",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("id", sa.UUID, primary_key=True),
        sa.Column("keep_until", _TIME, nullable=False),
        schema="scheduler",
    )


def downgrade() -> None:
    op.drop_table("cancellation", schema="scheduler")
    op.drop_table("delayed", schema="scheduler")
