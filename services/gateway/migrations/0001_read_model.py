"""The read model: mails and their timelines, partitioned by day."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE gateway.emails (
            bucket date NOT NULL,
            id uuid NOT NULL,
            version integer NOT NULL,
            account text NOT NULL,
            status text NOT NULL,
            complete boolean NOT NULL,
            attempts integer NOT NULL,
            recipients jsonb NOT NULL,
            message_id text,
            digest text,
            api_key_id text,
            sender text,
            addressees jsonb,
            subject text,
            tags text[],
            metadata jsonb,
            mailing_id text,
            batch_id text,
            send_at timestamptz,
            expires_at timestamptz,
            test boolean,
            requested_at timestamptz,
            recorded_at timestamptz,
            topic text,
            partition integer,
            "offset" bigint,
            ledger_digest text,
            rivals jsonb,
            held boolean NOT NULL,
            released boolean NOT NULL,
            refused boolean NOT NULL,
            completed boolean NOT NULL,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            PRIMARY KEY (bucket, id))
        PARTITION BY RANGE (bucket)
        """
    )
    op.execute(
        """
        CREATE TABLE gateway.timeline (
            bucket date NOT NULL,
            email_id uuid NOT NULL,
            event_id uuid NOT NULL,
            type text NOT NULL,
            account text NOT NULL,
            at timestamptz NOT NULL,
            topic text NOT NULL,
            partition integer NOT NULL,
            "offset" bigint NOT NULL,
            data jsonb NOT NULL,
            PRIMARY KEY (bucket, email_id, event_id))
        PARTITION BY RANGE (bucket)
        """
    )
    # The worker makes a partition for each day ahead of time; these catch what falls outside all the same.
    op.execute("CREATE TABLE gateway.emails_default PARTITION OF gateway.emails DEFAULT")
    op.execute("CREATE TABLE gateway.timeline_default PARTITION OF gateway.timeline DEFAULT")
    op.execute("CREATE TABLE gateway.locator (id uuid PRIMARY KEY, bucket date NOT NULL)")
