"""How much each key may ask for."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE access.api_keys
            ADD COLUMN request_rate double precision CHECK (request_rate >= 0),
            ADD COLUMN mail_rate double precision CHECK (mail_rate >= 0)
        """
    )
