"""The operator's hand: pauses, decisions on unknown outcomes, suppressions that can be listed and end; rows' sizes."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE sender.due
            ADD COLUMN size integer GENERATED ALWAYS AS (octet_length(event)) STORED,
            ADD COLUMN paused_account text,
            ADD COLUMN paused_tag text,
            ADD COLUMN resume_at timestamptz,
            ADD COLUMN intent text,
            ADD COLUMN intent_note text
        """
    )
    op.execute("CREATE INDEX due_by_kind ON sender.due (kind, size) WHERE kind <> 'paused'")
    op.execute(
        """
        CREATE INDEX due_paused ON sender.due (paused_account, paused_tag, resume_at) INCLUDE (size)
        WHERE paused_account IS NOT NULL
        """
    )
    op.execute("CREATE INDEX due_decided ON sender.due (due_at) WHERE intent IS NOT NULL")
    op.execute("CREATE INDEX due_held ON sender.due (accepted_at, id) WHERE kind = 'held'")
    op.execute(
        """
        CREATE TABLE sender.pause (
            account text NOT NULL,
            tag text NOT NULL,
            reason text NOT NULL,
            paused_at timestamptz NOT NULL DEFAULT now(),
            paused_by text NOT NULL,
            PRIMARY KEY (account, tag)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE sender.decision (
            id uuid PRIMARY KEY,
            attempt integer NOT NULL,
            intent text NOT NULL,
            note text NOT NULL,
            decided_at timestamptz NOT NULL DEFAULT now(),
            decided_by text NOT NULL
        )
        """
    )
    op.execute("CREATE INDEX decision_by_age ON sender.decision (decided_at)")
    op.execute("CREATE INDEX suppression_by_address ON sender.suppression (address, account)")
    op.execute("CREATE INDEX suppression_by_end ON sender.suppression (until) WHERE until IS NOT NULL")
