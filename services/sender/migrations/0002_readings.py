"""Who reads which partition, what operators have decided; the ledger can be deleted from by age."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE sender.reading (
            topic text NOT NULL,
            partition integer NOT NULL,
            holder uuid,
            suspect bigint,
            deaths integer NOT NULL DEFAULT 0,
            trying bigint,
            careful_until bigint NOT NULL DEFAULT -1,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (topic, partition)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE sender.verdict (
            topic text NOT NULL,
            partition integer NOT NULL,
            "offset" bigint NOT NULL,
            verdict text NOT NULL,
            asked_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (topic, partition, "offset")
        )
        """
    )
    op.execute("CREATE INDEX ledger_by_age ON sender.ledger (created_at)")
    op.execute("CREATE INDEX cancellation_by_end ON sender.cancellation (until)")
