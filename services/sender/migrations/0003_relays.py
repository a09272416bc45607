"""What all sender processes together may ask of a relay, and each one's share of it."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE sender.relay (
            name text PRIMARY KEY,
            kind text NOT NULL,
            priority integer NOT NULL,
            connections integer NOT NULL,
            mails_per_second double precision,
            updated_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute(
        """
        CREATE TABLE sender.relay_share (
            relay text NOT NULL,
            process uuid NOT NULL,
            slot integer NOT NULL,
            lease_until timestamptz NOT NULL,
            connections integer NOT NULL,
            wanted_connections integer NOT NULL,
            rate double precision,
            wanted_rate double precision NOT NULL,
            state text NOT NULL,
            error text,
            open_connections integer NOT NULL,
            sent_rate double precision NOT NULL,
            slowed_to double precision,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (relay, process)
        ) WITH (fillfactor = 50)
        """  # each row is written every second: in place (HOT), while its page has room
    )
