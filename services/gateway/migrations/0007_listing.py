"""Lists of mails and counts of them: an index for each filter, labels, tallies, and the triggers that keep them.

Labels and tallies follow from the rows of `emails` alone. Triggers write them in the statement that writes the rows,
whoever does: worker, rebuild, ageing, an older release that is still running (docs/adr/0022).
"""

from alembic import op

revision = "0007"
down_revision = "0006"

_STATUSES = ("queued", "scheduled", "deferred", "sent", "partially_sent", "failed", "cancelled", "expired", "unknown")

# What has labels of its own where a mail may have several. `address` is one that was checked; its domain is ASCII.
_LABELS = """
    SELECT mail.bucket, mail.account, label.kind, label.value, mail.created_at, mail.id
    FROM {mails} AS mail CROSS JOIN LATERAL (
        SELECT 'recipient', left(address, length(address) - length(domain)) || lower(domain)
        FROM jsonb_array_elements_text(mail.addressees -> 'all') AS one(address),
            LATERAL split_part(address, '@', -1) AS domain
        UNION ALL SELECT 'tag', tag FROM (SELECT DISTINCT unnest(mail.tags)) AS one(tag)) AS label(kind, value)
"""
_SAME_LABEL = """
    label.bucket = gone.bucket AND label.account = gone.account AND label.kind = gone.kind AND label.value = gone.value
    AND label.created_at = gone.created_at AND label.id = gone.id
"""
_COUNT = f"""
    INSERT INTO gateway.tallies AS kept (account, tag, resolution, start, {", ".join(_STATUSES)})
    SELECT * FROM (
        SELECT change.account, counted.tag, span.resolution, date_trunc(span.resolution, change.minute, 'UTC'),
            {", ".join(f"coalesce(sum(change.by) FILTER (WHERE change.status = '{each}'), 0)" for each in _STATUSES)}
        FROM (
            SELECT account, date_trunc('minute', created_at, 'UTC') AS minute, status, tags, sum(by) AS by
            FROM ({{changes}}) AS mail GROUP BY 1, 2, 3, 4 HAVING sum(by) <> 0) AS change
        CROSS JOIN LATERAL (SELECT '' UNION ALL SELECT DISTINCT unnest(change.tags)) AS counted(tag)
        CROSS JOIN (VALUES ('minute'), ('hour')) AS span(resolution)
        GROUP BY 1, 2, 3, 4) AS added(account, tag, resolution, start, {", ".join(_STATUSES)})
    WHERE ({", ".join(_STATUSES)}) <> ({", ".join("0" for _ in _STATUSES)})
    ORDER BY account, tag, resolution, start
    ON CONFLICT (account, tag, resolution, start)
    DO UPDATE SET {", ".join(f"{each} = kept.{each} + excluded.{each}" for each in _STATUSES)}
"""
_SIGNED = "SELECT account, created_at, status, tags, {by} AS by FROM {mails}"
_GAINED, _LOST = _SIGNED.format(by=1, mails="gained"), _SIGNED.format(by=-1, mails="lost")

_ADDED = f"""
    IF EXISTS (SELECT FROM gained) THEN
        INSERT INTO gateway.labels (bucket, account, kind, value, created_at, id) {_LABELS.format(mails="gained")};
        {_COUNT.format(changes=_GAINED)};
    END IF;
"""
_REMOVED = f"""
    IF EXISTS (SELECT FROM lost) THEN
        DELETE FROM gateway.labels AS label
        USING ({_LABELS.format(mails="lost")}) AS gone(bucket, account, kind, value, created_at, id)
        WHERE {_SAME_LABEL};
        {_COUNT.format(changes=_LOST)};
    END IF;
"""
_CHANGED = f"""
    IF EXISTS (SELECT FROM lost) THEN
        IF EXISTS (
            SELECT FROM lost FULL JOIN gained USING (id)
            WHERE (lost.bucket, lost.account, lost.created_at, lost.tags, lost.addressees)
                IS DISTINCT FROM (gained.bucket, gained.account, gained.created_at, gained.tags, gained.addressees))
        THEN
            DELETE FROM gateway.labels AS label USING (
                {_LABELS.format(mails="lost")} EXCEPT {_LABELS.format(mails="gained")}
                ) AS gone(bucket, account, kind, value, created_at, id)
            WHERE {_SAME_LABEL};
            INSERT INTO gateway.labels (bucket, account, kind, value, created_at, id)
            {_LABELS.format(mails="gained")} EXCEPT {_LABELS.format(mails="lost")};
        END IF;
        {_COUNT.format(changes=f"{_LOST} UNION ALL {_GAINED}")};
    END IF;
"""
_TRIGGERS = (
    ("emails_added", "INSERT", "NEW TABLE AS gained", _ADDED),
    ("emails_changed", "UPDATE", "OLD TABLE AS lost NEW TABLE AS gained", _CHANGED),
    ("emails_removed", "DELETE", "OLD TABLE AS lost", _REMOVED),
)
_DAYS = r"""
    DO $$
    DECLARE day text;
    BEGIN
        FOR day IN SELECT right(relname, 8) FROM pg_inherits JOIN pg_class ON oid = inhrelid
            WHERE inhparent = 'gateway.emails'::regclass AND relname ~ '_[0-9]{8}$'
        LOOP
            EXECUTE format('CREATE TABLE gateway.labels_%s PARTITION OF gateway.labels FOR VALUES FROM (%L) TO (%L)',
                day, to_date(day, 'YYYYMMDD'), to_date(day, 'YYYYMMDD') + 1);
        END LOOP;
    END $$
"""


def upgrade() -> None:
    _index_mails()
    _create_labels()
    _create_tallies()
    for name, event, transition, body in _TRIGGERS:
        op.execute(
            f"CREATE FUNCTION gateway.{name}() RETURNS trigger LANGUAGE plpgsql"
            f" AS $body$ BEGIN {body} RETURN NULL; END $body$"
        )
        op.execute(
            f"CREATE TRIGGER {name} AFTER {event} ON gateway.emails REFERENCING {transition}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION gateway.{name}()"
        )
    # The triggers keep writers out until the end, so what is there now is counted once.
    mails = "gateway.emails"
    op.execute(
        f"INSERT INTO gateway.labels (bucket, account, kind, value, created_at, id) {_LABELS.format(mails=mails)}"
    )
    op.execute(_COUNT.format(changes=_SIGNED.format(by=1, mails=mails)))


def _index_mails() -> None:
    op.execute("CREATE INDEX emails_by_time ON gateway.emails (account, created_at, id)")
    op.execute("CREATE INDEX emails_by_status ON gateway.emails (account, status, created_at, id)")
    for name, column in (("mailing", "mailing_id"), ("batch", "batch_id"), ("key", "api_key_id")):
        op.execute(
            f"CREATE INDEX emails_by_{name} ON gateway.emails (account, {column}, created_at, id)"
            f" WHERE {column} IS NOT NULL"
        )


def _create_labels() -> None:
    op.execute(
        """
        CREATE TABLE gateway.labels (
            created_at timestamptz NOT NULL,
            id uuid NOT NULL,
            bucket date NOT NULL,
            account text NOT NULL,
            kind text NOT NULL CHECK (kind IN ('recipient', 'tag')),
            value text NOT NULL)
        PARTITION BY RANGE (bucket)
        """
    )
    for kind in ("recipient", "tag"):
        op.execute(
            f"CREATE INDEX labels_by_{kind} ON gateway.labels (account, value, created_at, id) WHERE kind = '{kind}'"
        )
    op.execute("CREATE TABLE gateway.labels_default PARTITION OF gateway.labels DEFAULT")
    # For cleaning: days that are over go with their partitions, and need none.
    op.execute("CREATE INDEX labels_default_by_bucket ON gateway.labels_default (bucket)")
    op.execute(_DAYS)


def _create_tallies() -> None:
    counts = ", ".join(f"{each} integer NOT NULL" for each in _STATUSES)
    # Free space in the pages, for the row of the running minute is written again and again.
    op.execute(
        f"""
        CREATE TABLE gateway.tallies (
            account text NOT NULL,
            tag text NOT NULL,
            resolution text NOT NULL CHECK (resolution IN ('minute', 'hour')),
            start timestamptz NOT NULL,
            {counts},
            PRIMARY KEY (account, tag, resolution, start))
        WITH (fillfactor = 70)
        """
    )
    op.execute("CREATE INDEX tallies_by_age ON gateway.tallies (resolution, start)")


def downgrade() -> None:
    for name, *_ in _TRIGGERS:
        op.execute(f"DROP TRIGGER {name} ON gateway.emails")
        op.execute(f"DROP FUNCTION gateway.{name}()")
    op.execute("DROP TABLE gateway.labels, gateway.tallies")
    for name in ("time", "status", "mailing", "batch", "key"):
        op.execute(f"DROP INDEX gateway.emails_by_{name}")
