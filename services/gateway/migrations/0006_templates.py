"""Stored templates: the row of each name, and its versions, which never change."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    # A deleted template's row stays, so that a version's number is never used for another content.
    op.execute(
        """
        CREATE TABLE gateway.templates (
            account text NOT NULL,
            name text NOT NULL,
            latest integer NOT NULL DEFAULT 1,
            oldest integer NOT NULL DEFAULT 1,
            digest text NOT NULL,
            deleted boolean NOT NULL DEFAULT false,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (account, name))
        """
    )
    op.execute(
        """
        CREATE TABLE gateway.template_versions (
            account text NOT NULL,
            name text NOT NULL,
            version integer NOT NULL,
            subject text NOT NULL,
            text text,
            html text,
            variables json NOT NULL,
            api_key_id text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (account, name, version))
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE gateway.template_versions")
    op.execute("DROP TABLE gateway.templates")
