"""Keys that end, are bound to networks, are for tests, replace others; when each was last used."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE access.api_keys
            ADD COLUMN networks cidr[] NOT NULL DEFAULT '{}',
            ADD COLUMN test boolean NOT NULL DEFAULT false,
            ADD COLUMN expires_at timestamptz,
            ADD COLUMN last_used_at timestamptz,
            ADD COLUMN replaces uuid REFERENCES access.api_keys
        """
    )
