"""Rows of django_celery_beat become tasks, one after the other; what becomes of each is said."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from milena.client import Client
from milena.django.beat.schedules import Over, Unmappable
from milena.django.beat.tasks import Jobs, MappedTask, map_task
from milena.errors import ApiError, Conflict, InvalidContent, SenderNotAllowed

# What stays as it was unless it is taken back.
_TAKEN_BACK = ("recurring_interval", "recurring_details", "cron", "run_at", "start_at", "end_at")
_TIMES = ("run_at", "start_at", "end_at")


class Act(StrEnum):
    """What became of a row."""

    CREATED = "created"
    UPDATED = "updated"
    SKIPPED = "skipped"
    LEFT_OUT = "left out"


@dataclass(frozen=True)
class Outcome:
    """What became of a row, and why."""

    act: Act
    name: str
    detail: str
    remarks: tuple[str, ...] = ()


class BeatImport:
    """Makes tasks of rows. A task that has a row's name is left as it is, or changed to be like the row (`update`)."""

    def __init__(self, client: Client, jobs: Jobs, *, update: bool = False, dry_run: bool = False) -> None:
        self._client = client
        self._jobs = jobs
        self._update = update
        self._dry_run = dry_run

    def run(self, rows: Iterable[Any], now: datetime) -> Iterator[Outcome]:
        """Raises ApiError, ConnectionFailed where it is not the row that is wrong."""
        existing = {task["name"]: task for task in self._client.list_tasks()}
        for row in rows:
            try:
                task = map_task(row, self._jobs, now)
            except Unmappable as exc:
                yield Outcome(Act.LEFT_OUT, row.name, str(exc))
            except Over as exc:
                yield Outcome(Act.SKIPPED, row.name, str(exc))
            else:
                yield self._store(task, existing.get(task.name.strip()))

    def _store(self, task: MappedTask, existing: Mapping[str, Any] | None) -> Outcome:
        try:
            if existing is None:
                return self._create(task)
            return self._change(task, existing)
        except (InvalidContent, SenderNotAllowed) as exc:
            return Outcome(Act.LEFT_OUT, task.name, f"Milena refuses it: {exc}")
        except Conflict as exc:
            return Outcome(Act.SKIPPED, task.name, str(exc))

    def _create(self, task: MappedTask) -> Outcome:
        if not self._dry_run:
            self._client.create_task(**task.body)
        return Outcome(Act.CREATED, task.name, task.describe(), task.remarks)

    def _change(self, task: MappedTask, existing: Mapping[str, Any]) -> Outcome:
        """Only where it differs: any change would arm a task anew that has run once."""
        wanted = {**dict.fromkeys(_TAKEN_BACK), **task.body}
        changes = {name: value for name, value in wanted.items() if not _is_same(name, existing.get(name), value)}
        if not changes:
            return Outcome(Act.SKIPPED, task.name, "there is this task")
        if not self._update:
            return Outcome(Act.SKIPPED, task.name, "another task has this name (--update makes it like its row)")
        if not self._dry_run:
            self._client.update_task(existing["id"], **wanted)
        return Outcome(Act.UPDATED, task.name, task.describe(), task.remarks)


def _is_same(name: str, held: Any, wanted: Any) -> bool:
    if name in _TIMES and held and wanted:
        return datetime.fromisoformat(held) == datetime.fromisoformat(wanted)
    return bool(held == wanted)


def list_known_jobs(client: Client) -> frozenset[str]:
    """The names of Milena's jobs; none where the key may not see them."""
    try:
        return frozenset(str(job["name"]) for job in client.list_jobs())
    except ApiError as exc:
        if exc.status != 404:
            raise
        return frozenset()  # a Milena older than its list of jobs
