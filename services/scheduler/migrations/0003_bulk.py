"""Paced bulk: lanes, contents that many mails share, one row a mail, the window, and groups on their way (R2)."""

from alembic import op

revision = "0003"
down_revision = "0002"

_STATES = ("pending", "queued", "deferred", "unknown", "sent", "partially_sent", "failed", "expired", "cancelled")
_COUNTERS = ",\n".join(f"{state} bigint NOT NULL DEFAULT 0" for state in _STATES)

_TABLES = (
    # Changed with every group of its mails: room on the page, and indexes on what rarely changes, keep that cheap.
    f"""
    CREATE TABLE scheduler.bulk_lane (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        account text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('batch', 'mailing', 'loose')),
        name text NOT NULL,
        paused boolean NOT NULL DEFAULT false,
        cancelled_at timestamptz,
        {_COUNTERS},
        waiting boolean GENERATED ALWAYS AS (pending > 0) STORED,
        flying boolean GENERATED ALWAYS AS (queued > 0) STORED,
        handed_at timestamptz,
        result_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        changed_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (account, kind, name)
    ) WITH (fillfactor = 50)
    """,
    "CREATE INDEX bulk_lane_waiting ON scheduler.bulk_lane (account, id) WHERE waiting",
    "CREATE INDEX bulk_lane_flying ON scheduler.bulk_lane (id) WHERE flying",
    "CREATE INDEX bulk_lane_by_age ON scheduler.bulk_lane (created_at) WHERE kind <> 'loose'",
    """
    CREATE TABLE scheduler.bulk_content (
        lane bigint NOT NULL,
        id uuid NOT NULL,
        body bytea NOT NULL,
        used_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (lane, id)
    )
    """,
    "CREATE INDEX bulk_content_by_use ON scheduler.bulk_content (used_at)",
    f"""
    CREATE TABLE scheduler.bulk_mail (
        id uuid PRIMARY KEY,
        lane bigint NOT NULL,
        state text NOT NULL CHECK (state IN ({", ".join(f"'{state}'" for state in _STATES)})),
        number integer NOT NULL,
        due_at timestamptz NOT NULL,
        expires_at timestamptz,
        content uuid,
        own bytea,
        traceparent text,
        attempt integer NOT NULL DEFAULT 0,
        handed_at timestamptz,
        ended_at timestamptz
    ) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.1)
    """,
    "CREATE INDEX bulk_mail_pending ON scheduler.bulk_mail (lane, due_at, number) WHERE state = 'pending'",
    "CREATE INDEX bulk_mail_queued ON scheduler.bulk_mail (handed_at) WHERE state = 'queued'",
    "CREATE INDEX bulk_mail_open ON scheduler.bulk_mail (expires_at) WHERE state IN ('deferred', 'unknown')",
    "CREATE INDEX bulk_mail_ended ON scheduler.bulk_mail (ended_at) WHERE ended_at IS NOT NULL",
    """
    CREATE INDEX bulk_mail_unsent ON scheduler.bulk_mail (lane, number)
    WHERE state IN ('partially_sent', 'failed', 'expired', 'cancelled')
    """,
    """
    CREATE TABLE scheduler.bulk_window (
        id smallint PRIMARY KEY CHECK (id = 1),
        size integer NOT NULL,
        in_flight integer NOT NULL DEFAULT 0 CHECK (in_flight >= 0),
        rate double precision NOT NULL DEFAULT 0,
        latency_s double precision NOT NULL DEFAULT 0,
        results integer NOT NULL DEFAULT 0,
        fastest_s double precision NOT NULL DEFAULT 'Infinity',
        measured_at timestamptz NOT NULL DEFAULT now()
    ) WITH (fillfactor = 10)
    """,
    "INSERT INTO scheduler.bulk_window (id, size) VALUES (1, 50)",
    """
    CREATE TABLE scheduler.bulk_group (
        id uuid PRIMARY KEY,
        kind text NOT NULL CHECK (kind IN ('release', 'cancellation')),
        mails uuid[] NOT NULL,
        due_at timestamptz NOT NULL DEFAULT now(),
        lease_token uuid,
        lease_until timestamptz
    )
    """,
    "CREATE INDEX bulk_group_due ON scheduler.bulk_group (due_at)",
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)


def downgrade() -> None:
    for name in ("group", "window", "mail", "content", "lane"):
        op.execute(f"DROP TABLE scheduler.bulk_{name}")
