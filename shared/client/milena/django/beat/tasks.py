"""What a PeriodicTask is as a task of Milena. Pure."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from milena.django.beat.schedules import Over, Unmappable, map_schedule

EXTERNAL = "external:"
# Fields of a row that steer how Celery carries a message.
_CARRIAGE = ("queue", "exchange", "routing_key", "headers", "priority", "expire_seconds")
_HOUSEKEEPING = "celery.backend_cleanup"


@dataclass(frozen=True)
class Job:
    """What runs in place of a Celery task: a job; names for positional arguments; arguments it always has."""

    name: str
    positional: tuple[str, ...] = ()
    args: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, given: Any) -> "Job":
        """Of a setting: a job's name, or `{"job": …, "positional": […], "args": {…}}`. Raises ValueError."""
        if isinstance(given, str) and given:
            return cls(given)
        if not isinstance(given, Mapping) or not isinstance(given.get("job"), str) or given.keys() - _JOB_KEYS:
            raise ValueError('a job is a name, or {"job": name, "positional": [names], "args": {…}}')
        return cls(given["job"], tuple(given.get("positional", ())), dict(given.get("args", {})))


_JOB_KEYS = {"job", "positional", "args"}


@dataclass(frozen=True)
class Jobs:
    """Which job stands for which Celery task. `known`: Milena's jobs, which stand for tasks of the same name."""

    mapped: Mapping[str, Job]
    known: Collection[str] = ()
    external: bool = False

    def find(self, task: str) -> Job:
        """Raises Unmappable."""
        if task in self.mapped:
            return self.mapped[task]
        if task in self.known:
            return Job(task)
        if self.external:
            return Job(EXTERNAL + task)
        raise Unmappable(
            f"no job does {task}: name one in MILENA_BEAT_JOBS or by --job {task}=JOB, "
            "or take --external to have it published on schedule.tick for others"
        )


@dataclass(frozen=True)
class MappedTask:
    """The body of `POST /v1/tasks`, and what of the row it does not hold."""

    body: Mapping[str, Any]
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The task's name."""
        return str(self.body["name"])

    def describe(self) -> str:
        """When, and what."""
        details = self.body.get("recurring_details")
        when = self.body.get("cron") or self.body.get("run_at") or " ".join(details.values() if details else ())
        interval = f"{self.body['recurring_interval']} " if "recurring_interval" in self.body else ""
        return f"{interval}{when} {self.body.get('timezone', '')}".strip() + f" -> {self.body['job_name']}"


def map_task(row: Any, jobs: Jobs, now: datetime) -> MappedTask:
    """Raises Unmappable, Over."""
    if row.expires and row.expires <= now:
        raise Over(f"it has expired ({row.expires:%Y-%m-%d %H:%M})")
    if row.one_off and (row.total_run_count or (row.last_run_at and not row.enabled)):  # beat sets the count back then
        raise Over("it was to run once, and has")
    if row.task == _HOUSEKEEPING and row.task not in jobs.mapped:
        raise Over("Celery's own housekeeping; the scheduler does its own")
    job = jobs.find(row.task)
    body: dict[str, Any] = {
        "name": row.name,
        "job_name": job.name,
        "args": _map_arguments(row, job),
        "enabled": row.enabled,
        **map_schedule(row, now),
        **_bound(row),
    }
    return MappedTask(body, tuple(_list_remarks(row)))


def _bound(row: Any) -> dict[str, str]:
    """A clocked row has its time, and needs no bounds."""
    if row.clocked:
        return {}
    bounds = {"start_at": row.start_time, "end_at": row.expires}
    return {name: moment.astimezone(UTC).isoformat() for name, moment in bounds.items() if moment}


def _map_arguments(row: Any, job: Job) -> dict[str, Any]:
    positional, named = _read_json(row.args, list), _read_json(row.kwargs, dict)
    if len(positional) > len(job.positional):
        raise Unmappable(
            f"its positional arguments need names, {len(positional)} of them: "
            f'MILENA_BEAT_JOBS = {{"{row.task}": {{"job": "{job.name}", "positional": ["…"]}}}}'
        )
    return {**job.args, **dict(zip(job.positional, positional, strict=False)), **named}


def _read_json(text: str, kind: type) -> Any:
    try:
        value = json.loads(text or "null")
    except ValueError:
        value = text
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise Unmappable("its arguments are no JSON list and object")
    return value


def _list_remarks(row: Any) -> list[str]:
    kept_out = [name for name in _CARRIAGE if getattr(row, name, None) not in (None, "", "{}")]
    remarks = [f"not kept: {', '.join(kept_out)}"] if kept_out else []
    if row.interval and not (row.last_run_at or row.start_time) and row.interval.period in ("hours", "days"):
        remarks.append("it has not run yet: reckoned from midnight UTC")
    return remarks
