"""Deliveries and their attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", sa.UUID, primary_key=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("email_id", sa.UUID, nullable=False),
        sa.Column("event_id", sa.UUID, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("traceparent", sa.Text),
        sa.Column("state", sa.Text, nullable=False, server_default="pending"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("created_at", _TIME, nullable=False, server_default=sa.text("now()")),
        sa.Column("due_at", _TIME, nullable=False, server_default=sa.text("now()")),
        sa.Column("finished_at", _TIME),
        sa.Column("lease_token", sa.UUID),
        sa.Column("lease_until", _TIME),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'failed')", name="delivery_state"),
        schema="callback",
    )
    op.create_index(
        "delivery_due", "delivery", ["due_at"], schema="callback", postgresql_where=sa.text("state = 'pending'")
    )
    op.create_index("delivery_by_email", "delivery", ["email_id"], schema="callback")
    op.create_table(
        "attempt",
        sa.Column("delivery_id", sa.UUID, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("duration_ms", sa.Integer, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("response", sa.Text, nullable=False, server_default=""),
        sa.ForeignKeyConstraint(["delivery_id"], ["callback.delivery.id"], ondelete="CASCADE"),
        schema="callback",
    )


def downgrade() -> None:
    op.drop_table("attempt", schema="callback")
    op.drop_table("delivery", schema="callback")
