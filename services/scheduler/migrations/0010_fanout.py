"""Mailings as lanes of bulk mail: whose each mail is, why it failed, and how fast a lane may go."""

from alembic import op

revision = "0010"
down_revision = "0009"

_STATES = ("pending", "queued", "deferred", "unknown", "sent", "partially_sent", "failed", "expired", "cancelled")
_CHECK = "ALTER TABLE scheduler.bulk_mail DROP CONSTRAINT bulk_mail_state_check, ADD CHECK (state IN ({}))"


def _write_check(*states: str) -> str:
    return _CHECK.format(", ".join(f"'{state}'" for state in states))


_UPGRADE = (
    """
    ALTER TABLE scheduler.bulk_mail
        ADD COLUMN recipient uuid,
        ADD COLUMN round smallint NOT NULL DEFAULT 0,
        ADD COLUMN repeats smallint NOT NULL DEFAULT 0,
        ADD COLUMN zone text,
        ADD COLUMN reason text,
        ADD COLUMN detail text
    """,
    _write_check(*_STATES, "skipped"),
    # A recipient is in a mailing once, whatever the id of the mail that goes to him now.
    "CREATE UNIQUE INDEX bulk_mail_recipient ON scheduler.bulk_mail (lane, recipient) WHERE recipient IS NOT NULL",
    """
    ALTER TABLE scheduler.bulk_lane
        ADD COLUMN skipped bigint NOT NULL DEFAULT 0,
        ADD COLUMN rate integer CHECK (rate > 0),
        ADD COLUMN tokens double precision NOT NULL DEFAULT 0,
        ADD COLUMN tokens_at timestamptz NOT NULL DEFAULT now()
    """,
    """
    ALTER TABLE scheduler.bulk_window
        ADD COLUMN heard_at timestamptz,
        ADD COLUMN heard_since timestamptz
    """,
    """
    ALTER TABLE scheduler.mailing
        ADD COLUMN freeze_erasures integer NOT NULL DEFAULT 0,
        ADD COLUMN freeze_until timestamptz,
        ADD COLUMN retry_before timestamptz,
        ADD COLUMN retry_unknown boolean NOT NULL DEFAULT false
    """,
    """
    CREATE INDEX mailing_unfinished ON scheduler.mailing (account, id) WHERE state <> 'draft' AND finished_at IS NULL
    """,
)
_DOWNGRADE = (
    "DROP INDEX scheduler.mailing_unfinished",
    """
    ALTER TABLE scheduler.mailing DROP COLUMN freeze_erasures, DROP COLUMN freeze_until, DROP COLUMN retry_before,
        DROP COLUMN retry_unknown
    """,
    "ALTER TABLE scheduler.bulk_window DROP COLUMN heard_at, DROP COLUMN heard_since",
    """
    ALTER TABLE scheduler.bulk_lane DROP COLUMN skipped, DROP COLUMN rate, DROP COLUMN tokens, DROP COLUMN tokens_at
    """,
    "DROP INDEX scheduler.bulk_mail_recipient",
    "DELETE FROM scheduler.bulk_mail WHERE state = 'skipped'",
    _write_check(*_STATES),
    """
    ALTER TABLE scheduler.bulk_mail DROP COLUMN recipient, DROP COLUMN round, DROP COLUMN repeats, DROP COLUMN zone,
        DROP COLUMN reason, DROP COLUMN detail
    """,
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
