"""Millions of mails in the read model, written by PostgreSQL itself: what the lists are measured on."""

from datetime import UTC, date, datetime, timedelta

from services.gateway.partitions import Partitions
from services.gateway.store import PartitionStore
from services.gateway.tallies import MINUTES_KEPT
from shared.database import Database
from shared.states import MailStatus

DAYS = 90
# 60 % of the mails are one account's, 30 tags of falling frequency, a mailing a day, 300,000 recipients who come again.
# `rare` marks one mail in 500,000, so most days have none of it.
_DRAW = """
    SELECT n, at, uuidv7(at - now()) AS id, n % 500000 = 7 AS rare,
        CASE WHEN n % 10 < 6 THEN 'default' ELSE 'account-' || n % 10 END AS account,
        CASE WHEN n % 100 < 95 THEN 'sent' WHEN n % 100 < 98 THEN 'failed' WHEN n % 1000 < 990 THEN 'expired'
            WHEN n % 1000 < 999 THEN 'partially_sent' ELSE 'unknown' END AS status,
        CASE WHEN n % 500000 = 7 THEN 'rare' ELSE 'user' || floor(300000 * power(random(), 2)) END || '@example.org'
            AS address
    FROM (SELECT n, $1::timestamptz + random() * interval '1 day' AS at
          FROM generate_series($2::int, $3::int - 1) AS n) AS drawn
"""
_COLUMNS = """
    bucket, id, version, account, status, complete, attempts, recipients, message_id, digest, api_key_id, sender,
    addressees, subject, tags, metadata, mailing_id, batch_id, test, requested_at, recorded_at, topic, partition,
    "offset", ledger_digest, held, released, refused, completed, created_at, updated_at
"""
_FILL = f"""
    WITH mail AS (
        INSERT INTO gateway.emails ({_COLUMNS})
        SELECT $1::date, id, 2, account, status, true, 1,
            jsonb_build_array(jsonb_build_object('address', address, 'state', 'sent', 'attempt', 1, 'at', at,
                'smtp_code', 250, 'response', '250 2.0.0 Ok: queued as 4dC1bx0Y2zz9s', 'relay', 'main')),
            '<' || id || '@example.com>', md5(n::text), 'key_' || account || '_' || n % 3,
            'Shop <no-reply@example.com>',
            jsonb_build_object('to', jsonb_build_array(address), 'cc', '[]'::jsonb, 'bcc', '[]'::jsonb,
                'all', jsonb_build_array(address)),
            'Your order ' || n,
            ARRAY['tag-' || floor(30 * power(random(), 3))] || CASE WHEN rare THEN ARRAY['rare'] END,
            jsonb_build_object('order', n), CASE WHEN n % 3 = 0 THEN 'mailing-' || $1 END,
            CASE WHEN rare THEN 'batch-rare' WHEN n % 20 = 0 THEN 'batch-' || $1 END, false, at, at, 'email.requested',
            n % 12, n, md5(n::text), false, true, false, true, at, at + interval '2 s'
        FROM ({_DRAW}) AS drawn
        RETURNING created_at, id, bucket, account, tags, addressees)
    INSERT INTO gateway.labels (created_at, id, bucket, account, kind, value)
    SELECT created_at, id, bucket, account, 'recipient', addressees -> 'all' ->> 0 FROM mail
    UNION ALL SELECT created_at, id, bucket, account, 'tag', unnest(tags) FROM mail
"""
_TALLY = f"""
    INSERT INTO gateway.tallies (account, tag, resolution, start, {", ".join(MailStatus)})
    SELECT account, tag, $1, date_trunc($1, created_at, 'UTC'),
        {", ".join(f"count(*) FILTER (WHERE status = '{each}')" for each in MailStatus)}
    FROM gateway.emails CROSS JOIN LATERAL unnest(array_prepend('', tags)) AS tag
    WHERE bucket >= $2 GROUP BY 1, 2, 4
"""
_INDEXES = """
    SELECT index.relname AS name, replace(pg_get_indexdef(index.oid), ' ON ONLY ', ' ON ') AS definition
    FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid
    WHERE index.relkind = 'I' AND NOT indisprimary
        AND indrelid IN ('gateway.emails'::regclass, 'gateway.labels'::regclass)
"""


def list_days(days: int = DAYS) -> list[date]:
    """The days that mails are spread over, up to yesterday."""
    today = datetime.now(UTC).date()
    return [today - timedelta(days=ago) for ago in range(days, 0, -1)]


async def fill_read_model(database: Database, mails: int, days: int = DAYS) -> None:
    """Write so many mails into a fresh read model, the same number each day, with their labels and tallies.

    Indexes are made at the end, and the triggers rest: that takes a third of the time.
    """
    calendar = list_days(days)
    await Partitions(PartitionStore(database)).provide(calendar)
    indexes = await database.fetch(_INDEXES)
    for index in indexes:
        await database.fetch(f"DROP INDEX gateway.{index['name']}")
    await database.fetch("ALTER TABLE gateway.emails DISABLE TRIGGER USER")
    for number, day in enumerate(calendar):
        await database.fetch(_FILL, day, mails * number // days, mails * (number + 1) // days)
    await database.fetch("ALTER TABLE gateway.emails ENABLE TRIGGER USER")
    for index in indexes:
        await database.fetch(index["definition"])
    await database.fetch(_TALLY, "hour", calendar[0])
    await database.fetch(_TALLY, "minute", datetime.now(UTC).date() - MINUTES_KEPT)
    for table in ("emails", "labels", "tallies"):
        await database.fetch(f"VACUUM ANALYZE gateway.{table}")
