"""Test mail that waits, found by itself: it is tried again also while no relay can be reached."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("ALTER TABLE sender.due ADD COLUMN test boolean NOT NULL DEFAULT false")
    op.execute("CREATE INDEX due_test ON sender.due (due_at) WHERE test")
