"""Tasks and their occurrences."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_TIME = sa.DateTime(timezone=True)
_LIVE = sa.text("state IN ('pending', 'published', 'ready', 'running')")


def upgrade() -> None:
    _create_task()
    _create_occurrence()


def _create_task() -> None:
    op.create_table(
        "task",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("job_name", sa.Text, nullable=False),
        sa.Column("args", sa.JSON, nullable=False),
        sa.Column("recurring_interval", sa.Text),
        sa.Column("recurring_details", sa.JSON),
        sa.Column("cron", sa.Text),
        sa.Column("timezone", sa.Text, nullable=False),
        sa.Column("run_at", _TIME),
        sa.Column("start_at", _TIME),
        sa.Column("end_at", _TIME),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("misfire", sa.Text, nullable=False),
        sa.Column("overlap", sa.Text, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("backoff_s", sa.Double, nullable=False),
        sa.Column("time_limit_s", sa.Double),
        sa.Column("creator_key_id", sa.Text),
        sa.Column("creator_name", sa.Text),
        sa.Column("test", sa.Boolean, nullable=False),
        sa.Column("created_at", _TIME, nullable=False, server_default=sa.text("now()")),
        sa.Column("updated_at", _TIME, nullable=False, server_default=sa.text("now()")),
        sa.Column("revision", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("next_due_at", _TIME),
        sa.Column("status", sa.Text, nullable=False, server_default=sa.text("'CREATED'")),
        sa.Column("last_due_at", _TIME),
        sa.UniqueConstraint("account", "name", name="task_name"),
        sa.CheckConstraint("status IN ('CREATED', 'RUNNING', 'SUCCEEDED', 'FAILED')", name="task_status"),
        sa.CheckConstraint("misfire IN ('skip', 'run_once')", name="task_misfire"),
        sa.CheckConstraint("overlap IN ('allow', 'skip')", name="task_overlap"),
        schema="scheduler",
    )
    due = sa.text("enabled AND next_due_at IS NOT NULL")
    op.create_index("task_due", "task", ["next_due_at"], schema="scheduler", postgresql_where=due)
    op.create_index("task_by_account", "task", ["account", "id"], schema="scheduler")


def _create_occurrence() -> None:
    states = "'pending', 'published', 'ready', 'running', 'succeeded', 'failed', 'skipped'"
    op.create_table(
        "occurrence",
        sa.Column("id", sa.UUID, primary_key=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("task_id", sa.BigInteger),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("job_name", sa.Text, nullable=False),
        sa.Column("args", sa.JSON, nullable=False),
        sa.Column("scheduled_for", _TIME, nullable=False),
        sa.Column("by_hand", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("due_at", _TIME, nullable=False, server_default=sa.text("now()")),
        sa.Column("lease_token", sa.UUID),
        sa.Column("lease_until", _TIME),
        sa.Column("begin_by", _TIME),
        sa.Column("ticks", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("attempt", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("deaths", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("taken_over", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("backoff_s", sa.Double, nullable=False),
        sa.Column("time_limit_s", sa.Double),
        sa.Column("creator_key_id", sa.Text),
        sa.Column("test", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("created_at", _TIME, nullable=False, server_default=sa.text("now()")),
        sa.Column("published_at", _TIME),
        sa.Column("started_at", _TIME),
        sa.Column("finished_at", _TIME),
        sa.Column("result", sa.JSON),
        sa.Column("error", sa.JSON),
        sa.CheckConstraint(f"state IN ({states})", name="occurrence_state"),
        schema="scheduler",
    )
    op.create_index("occurrence_due", "occurrence", ["due_at"], schema="scheduler", postgresql_where=_LIVE)
    op.create_index("occurrence_live", "occurrence", ["task_id"], schema="scheduler", postgresql_where=_LIVE)
    op.create_index("occurrence_history", "occurrence", ["task_id", "scheduled_for", "id"], schema="scheduler")
    ended = sa.text("finished_at IS NOT NULL")
    op.create_index("occurrence_ended", "occurrence", ["finished_at"], schema="scheduler", postgresql_where=ended)


def downgrade() -> None:
    op.drop_table("occurrence", schema="scheduler")
    op.drop_table("task", schema="scheduler")
