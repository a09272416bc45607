"""Tasks, and their occurrences: what is to be done when, and what became of it.

JSON is kept as `json`: it is never searched, and `jsonb` refuses the \\u0000 that a caller's arguments may hold.
"""

from sqlalchemy import (
    JSON,
    UUID,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from services.scheduler.tables.schema import metadata

LIVE = "state IN ('pending', 'published', 'ready', 'running')"
"""Occurrences that have not ended; the condition of the index a due loop reads."""

_TIME = DateTime(timezone=True)

task = Table(
    "task",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("account", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("job_name", Text, nullable=False),
    Column("args", JSON, nullable=False, comment="as given; the job's defaults are merged under them when it runs"),
    Column("recurring_interval", Text),
    Column("recurring_details", JSON),
    Column("cron", Text),
    Column("timezone", Text, nullable=False),
    Column("run_at", _TIME),
    Column("start_at", _TIME),
    Column("end_at", _TIME),
    Column("enabled", Boolean, nullable=False),
    Column("misfire", Text, nullable=False),
    Column("overlap", Text, nullable=False),
    Column("max_attempts", Integer, nullable=False, comment="of a run that fails; deaths of a process do not count"),
    Column("backoff_s", Double, nullable=False, comment="before the second attempt, doubled before each further one"),
    Column("time_limit_s", Double, comment="null: the job's own, or the setting"),
    Column("creator_key_id", Text),
    Column("creator_name", Text),
    Column("test", Boolean, nullable=False, comment="made with a test key: its mail is simulated"),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
    Column("updated_at", _TIME, nullable=False, server_default=text("now()")),
    Column("revision", Integer, nullable=False, server_default=text("0"), comment="counts edits"),
    Column("next_due_at", _TIME, comment="null: never again, or disabled"),
    Column("status", Text, nullable=False, server_default=text("'CREATED'"), comment="of the latest run"),
    Column("last_due_at", _TIME, comment="the due time of the run whose status that is"),
    UniqueConstraint("account", "name", name="task_name"),
    Index("task_due", "next_due_at", postgresql_where=text("enabled AND next_due_at IS NOT NULL")),
    Index("task_by_account", "account", "id"),
)

occurrence = Table(
    "occurrence",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("account", Text, nullable=False),
    Column("task_id", BigInteger, comment="no foreign key: history outlives its task; null: a job run without one"),
    Column("name", Text, nullable=False),
    Column("job_name", Text, nullable=False),
    Column("args", JSON, nullable=False),
    Column("scheduled_for", _TIME, nullable=False, comment="its due time; by hand: when it was asked for"),
    Column("by_hand", Boolean, nullable=False, server_default=text("false")),
    Column("state", Text, nullable=False),
    Column("due_at", _TIME, nullable=False, server_default=text("now()"), comment="when a due loop is to look at it"),
    Column("lease_token", UUID),
    Column("lease_until", _TIME),
    Column("begin_by", _TIME, comment="begun later it is skipped as missed; null: whenever"),
    Column("ticks", Integer, nullable=False, server_default=text("0"), comment="how often publishing it was begun"),
    Column("attempt", Integer, nullable=False, server_default=text("0"), comment="how often it was begun"),
    Column("failures", Integer, nullable=False, server_default=text("0"), comment="how often it raised"),
    Column("deaths", Integer, nullable=False, server_default=text("0"), comment="how often its process died under it"),
    Column("taken_over", Boolean, nullable=False, server_default=text("false"), comment="this attempt, from the dead"),
    Column("max_attempts", Integer, nullable=False),
    Column("backoff_s", Double, nullable=False),
    Column("time_limit_s", Double),
    Column("creator_key_id", Text),
    Column("test", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
    Column("published_at", _TIME),
    Column("started_at", _TIME, comment="of the first attempt"),
    Column("finished_at", _TIME),
    Column("result", JSON),
    Column("error", JSON, comment='{"class", "message"} of the last failure'),
    Index("occurrence_due", "due_at", postgresql_where=text(LIVE)),
    Index("occurrence_live", "task_id", postgresql_where=text(LIVE)),
    Index("occurrence_history", "task_id", "scheduled_for", "id"),
    Index("occurrence_ended", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
)
