"""Rows of the locator by their bucket, so that those of days no longer kept are found without a scan."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("CREATE INDEX locator_by_bucket ON gateway.locator (bucket)")


def downgrade() -> None:
    op.execute("DROP INDEX gateway.locator_by_bucket")
