"""Every metric of every process, with its meaning, in one place."""

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "render_metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

# gateway
EMAILS_ACCEPTED = Counter(
    "milena_emails_accepted_total", "Mails answered with 202 (SMTP: 250): the broker has acknowledged them"
)
IDEMPOTENT_REQUESTS = Counter(
    "milena_idempotent_requests_total",
    "Requests with an Idempotency-Key by what it stood for: new, again (an earlier one had no answer for good), answered, in_flight, other_payload",
    ["found"],
)
REQUESTS_REFUSED = Counter("milena_requests_refused_total", "API requests refused, by HTTP status", ["status"])
SMTP_MAILS = Counter(
    "milena_smtp_mails_total",
    "Mails given over SMTP, by the reply to their content (250: the broker holds it)",
    ["code"],
)
SMTP_CONNECTIONS = Gauge("milena_smtp_connections", "Open connections of applications that give mail over SMTP")
RATE_LIMITED = Counter("milena_rate_limited_total", "Requests answered with 429, by what was used up", ["limit"])
REQUESTS_SHED = Counter(
    "milena_requests_shed_total", "Requests answered with 503 for want of room, by what was full", ["why"]
)
HTTP_REQUESTS_IN_FLIGHT = Gauge("milena_http_requests_in_flight", "Requests whose answer has not begun", ["api"])
HTTP_BYTES_IN_FLIGHT = Gauge("milena_http_bytes_in_flight", "Bytes of their bodies that have come", ["api"])
PUBLISH_SECONDS = Histogram("milena_publish_seconds", "From send() to the broker's acknowledgement", buckets=_LATENCY)
RECORDS_PROJECTED = Counter("milena_records_projected_total", "Records taken into the read model, by topic", ["topic"])
OLDEST_WAITING_SECONDS = Gauge(
    "milena_oldest_waiting_seconds", "Age of the oldest mail without an outcome, from when it was to be sent; 0: none"
)
RECONCILED_MAILS = Gauge("milena_reconciled_mails", "Mails by state, as the last reconcile found them", ["state"])
RECONCILE_FAULTS = Gauge("milena_reconcile_faults", "What the last reconcile found that does not add up; NaN: none ran")
RECONCILE_AGE_SECONDS = Gauge("milena_reconcile_age_seconds", "Since the last reconcile began; NaN: none ran")

# live streams
LIVE_STREAMS = Gauge("milena_live_streams", "Open streams of live events, by kind: sse, websocket", ["kind"])
LIVE_EVENTS = Counter("milena_live_events_total", "Events written to live streams", ["kind"])
LIVE_DROPPED = Counter("milena_live_dropped_total", "Streams ended because their reader did not keep up")
LIVE_GAPS = Counter("milena_live_gaps_total", "Streams resumed from before what is still held: events are missing")

# consuming
LANE_IN_FLIGHT = Gauge("milena_lane_in_flight", "Events taken from Kafka and not yet acknowledged")
LANE_BYTES = Gauge("milena_lane_bytes", "Bytes of events buffered or in flight")
LANE_OLDEST_SECONDS = Gauge("milena_lane_oldest_seconds", "Age of the oldest event in flight")
LANE_ABANDONED = Counter(
    "milena_lane_abandoned_total", "Events given up at a revocation or at shutdown, to be redelivered"
)
EVENTS_SKIPPED = Counter("milena_events_skipped_total", "Events left to another service or of unknown type", ["why"])
BATCH_SECONDS = Histogram(
    "milena_batch_seconds",
    "One batch of records, fetched to handled and, where due, committed",
    ["consumer"],
    buckets=_LATENCY,
)
OFFSET_OUT_OF_RANGE = Counter("milena_offset_out_of_range_total", "Positions Kafka no longer holds: records were lost")

RECORDS_HELD = Gauge(
    "milena_record_held", "1 for a record that has ended its readers and waits for `skip`", ["partition", "offset"]
)
SETTING_BREACHES = Gauge("milena_setting_breaches", "1 for each setting that endangers a promise (P13)", ["setting"])

# stages of a pipeline
STAGE_ITEMS = Counter("milena_stage_items_total", "Items a stage has handled", ["stage"])
STAGE_GROUPS = Counter("milena_stage_groups_total", "Groups they were handled in", ["stage"])
STAGE_SECONDS = Counter("milena_stage_seconds_total", "Wall time of those groups", ["stage"])

# sender
MAILS_SETTLED = Counter("milena_mails_settled_total", "Attempts settled in the ledger, by outcome", ["outcome"])
CLAIMS = Counter("milena_claims_total", "What claiming a mail found", ["found"])
ACCEPTED_TO_SENT = Histogram("milena_accepted_to_sent_seconds", "From acceptance to the relay's 250", buckets=_LATENCY)
RELAY_CONNECTIONS = Gauge("milena_relay_connections", "Open connections", ["relay"])
RELAY_MAILS = Counter(
    "milena_relay_mails_total",
    "Mails by what became of them at a relay: sent, deferred or refused by its answer, unknown; broken: the connection ended before the content; not_begun: our claim had lapsed; test mail has the relay simulator",
    ["relay", "outcome"],
)
RELAY_RATE = Gauge(
    "milena_relay_allowed_rate", "Mails per second this process may begin there; +Inf: no limit", ["relay"]
)
RELAY_SLOWED = Gauge("milena_relay_slowed", "1 while the relay gets fewer mails because it asked for that", ["relay"])
BREAKER_OPEN = Gauge("milena_breaker_open", "1 while the relay's breaker is open and it gets no mail", ["relay"])
LEASE_RENEWALS = Counter("milena_lease_renewals_total", "Claims renewed because their mail takes long")
PAUSES = Gauge("milena_sending_paused", "Pauses in force, by what they cover", ["scope"])
WAITING_MAILS = Gauge(
    "milena_waiting_mails",
    "Mails in due rows by kind: deferred, parked (in another's claim), held (for an operator), paused (counted up to 100,000); the first three count against MILENA_WAITING_LIMIT",
    ["kind"],
)
WAITING_BYTES = Gauge("milena_waiting_bytes", "Octets of their events", ["kind"])
STAGING_SAFETY = Gauge(
    "milena_staging_safety", "1 for each setting in force that keeps mail from recipients", ["setting"]
)

# scheduler: waiting mail
RELEASE_LAG = Histogram(
    "milena_release_lag_seconds",
    "From when a delayed mail was due to the broker's acknowledgement of its release",
    buckets=_LATENCY,
)
RELEASE_OVERDUE_SECONDS = Gauge(
    "milena_release_overdue_seconds", "For how long the oldest delayed mail that has not left has been due; 0: none"
)

# scheduler: bulk mail
BULK_HANDED_OUT = Counter("milena_bulk_handed_out_total", "Bulk mails given to the senders")
BULK_RESULTS = Counter("milena_bulk_results_total", "Results that changed where a bulk mail stands")
BULK_WINDOW = Gauge("milena_bulk_window", "Bulk mails that may be without a result at once")
BULK_IN_FLIGHT = Gauge("milena_bulk_in_flight", "Bulk mails handed out that have had no result yet")
BULK_WAITING_SECONDS = Gauge(
    "milena_bulk_waiting_seconds", "How long the bulk mail has waited that is due longest; what is paused is left out"
)

# due loops
DUE_LEASED = Counter("milena_due_leased_total", "Rows a due loop has taken on", ["loop"])
DUE_FAILED = Counter(
    "milena_due_failed_total", "Rows whose handler raised: they come again after their lease", ["loop"]
)
ROWS_DELETED = Counter("milena_rows_deleted_total", "Rows kept for long enough and deleted, by table", ["table"])

# scheduler: tasks and jobs
TICKS_PUBLISHED = Counter("milena_ticks_published_total", "Occurrences told on schedule.tick, acknowledged")
RUNS_ENDED = Counter(
    "milena_runs_total",
    "Runs by what became of an attempt: succeeded, failed (for good), retried (failed, comes again), skipped (missed, or the task still ran), interrupted (the process stopped)",
    ["outcome"],
)
RUNS_TAKEN_OVER = Counter("milena_runs_taken_over_total", "Runs begun again because their process died under them")
RUNS_AT_WORK = Gauge("milena_runs_at_work", "Jobs running in this process")
RUN_LATENESS_SECONDS = Histogram(
    "milena_run_lateness_seconds", "From a run's due time to its first beginning", buckets=_LATENCY
)
JOBS_STUCK = Gauge(
    "milena_jobs_stuck",
    "Plain jobs beyond their time limit, whose thread nobody can end, and 1 while an async job blocks its loop",
)

# callback
CALLBACK_ATTEMPTS = Counter("milena_callback_attempts_total", "Callback requests made, by outcome", ["outcome"])


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """Observe a group at the cost of one; `observe` takes 2 µs for each."""
    bounds: list[float] = histogram._upper_bounds
    for bucket, count in Tally(bisect_left(bounds, value) for value in values).items():
        histogram._buckets[bucket].inc(count)
    histogram._sum.inc(sum(values))


def render_metrics() -> bytes:
    """The Prometheus text format of this process."""
    return generate_latest(REGISTRY)
