"""From what was sent to what is stored: every rule a task must keep. Pure but for the problems it raises."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError

from services.scheduler.recurrence import InvalidSchedule, RecurringDetails, RecurringInterval, Schedule
from services.scheduler.runs.job import Job, merge_args
from services.scheduler.task_api.bodies import NewTask, TaskChanges, WhenDue
from services.scheduler.tasks.task import EXTERNAL, TaskDefinition, Timing
from shared.access import ApiKey
from shared.bodies import parse_model, point_out
from shared.problems import Problem, invalid_content

log = structlog.get_logger(__name__)

Errors = list[dict[str, str]]

_WAYS = ("recurring_interval", "recurring_details", "cron", "run_at")


@dataclass(frozen=True, slots=True)
class Definer:
    """Makes definitions of bodies. `jobs` by name, `defaults` of their arguments by job."""

    jobs: Mapping[str, Job]
    defaults: Mapping[str, Mapping[str, Any]]

    def define(self, wanted: NewTask, key: ApiKey, now: datetime) -> TaskDefinition:
        """The definition of a new task. Raises Problem 403, 422 with all that is wrong."""
        timing, errors = _time(wanted, now, None)
        args, found = self._read_args(wanted.job_name, wanted.args, "/job_name")
        _refuse([*errors, *found])
        self._check_senders(wanted.job_name, args, key)
        return _complete(wanted, timing)

    def change(self, before: TaskDefinition, changes: TaskChanges, key: ApiKey, now: datetime) -> TaskDefinition:
        """The definition that changes make of another. Raises as `define` does: the whole has to be right.

        What is neither job nor arguments may be changed whatever has become of those: a task can always be paused.
        """
        given = changes.to_fields()
        wanted = parse_model(_overlay(before, given), NewTask)
        timing, errors = _time(wanted, now, before.timing)
        args = None
        if given.keys() & {"job_name", "args"}:
            args, found = self._read_args(wanted.job_name, wanted.args, "/job_name")
            errors += found
        _refuse(errors)
        self._check_senders(wanted.job_name, args, key)
        return _complete(wanted, timing)

    def check_run(self, job_name: str, args: Mapping[str, Any], key: ApiKey) -> None:
        """Raises Problem 403, 404, 422 where the job cannot be run with these arguments by this key."""
        self.refuse_unknown(job_name)
        model, errors = self._read_args(job_name, args, "")
        _refuse(errors)
        self._check_senders(job_name, model, key)

    def refuse_unknown(self, job_name: str) -> None:
        """Raises Problem 404 where no job has this name (any more)."""
        if job_name not in self.jobs:
            raise Problem(404, "job-not-found", f"There is no job of this name; there are: {self._list_names()}.")

    def _read_args(self, job_name: str, args: Mapping[str, Any], pointer: str) -> tuple[BaseModel | None, Errors]:
        if job_name.startswith(EXTERNAL):
            detail = f"needs a name behind {EXTERNAL}, for those who read schedule.tick"
            return None, [] if job_name != EXTERNAL else [{"detail": detail, "pointer": pointer}]
        job = self.jobs.get(job_name)
        if job is None:
            detail = f"is no job of the registry; there are: {self._list_names()}; {EXTERNAL}… is published for others"
            return None, [{"detail": detail, "pointer": pointer}]
        try:
            return job.args_model.model_validate(merge_args(args, self.defaults.get(job_name))), []
        except ValidationError as exc:
            return None, [{**each, "pointer": f"/args{each['pointer']}"} for each in point_out(exc)]
        except Exception as exc:  # the job's own code: a validator of its model
            log.exception("a job's model failed over arguments", job=job_name)
            detail = f"cannot be checked: the job's own model raised {type(exc).__name__}"
            return None, [{"detail": detail, "pointer": "/args"}]

    def _check_senders(self, job_name: str, args: BaseModel | None, key: ApiKey) -> None:
        list_senders = None if args is None else self.jobs[job_name].list_senders
        senders = list_senders(args) if list_senders else ()
        refused = [field for field, address in senders if not key.may_send_from(address)]
        if refused:
            detail = "is not among the senders of this API key"
            errors = [{"detail": detail, "pointer": f"/args/{field}"} for field in refused]
            raise Problem(403, "sender-not-allowed", f"{refused[0]} {detail}.", errors=errors)

    def _list_names(self) -> str:
        return ", ".join(sorted(self.jobs))


def read_schedule(wanted: WhenDue) -> Schedule:
    """The schedule that is meant. Raises Problem 422."""
    try:
        return _build(wanted)
    except InvalidSchedule as exc:
        raise invalid_content(_point(exc)) from None


def to_fields(definition: TaskDefinition) -> dict[str, Any]:
    """A definition as the body it could have been made with."""
    fields = {name: getattr(definition, name) for name in NewTask.model_fields if hasattr(definition, name)}
    return {**fields, **asdict(definition.timing), "retries": definition.max_attempts - 1}


def _overlay(before: TaskDefinition, given: dict[str, Any]) -> dict[str, Any]:
    fields = to_fields(before)
    return fields | dict.fromkeys(_list_replaced(fields, given)) | given


def _list_replaced(fields: Mapping[str, Any], given: Mapping[str, Any]) -> Sequence[str]:
    """What is taken back, for one way to say when a task is due takes the place of another.

    Details stay with an interval; ONE_OFF stays with a cron line, and may be added to one: it says how often, not when.
    """
    named = {way for way in _WAYS if given.get(way) is not None}
    if "run_at" in named or ("cron" in named and fields["cron"] is None):
        return _WAYS
    if "cron" in named:
        return ("run_at",)
    is_added = given.get("recurring_interval") == RecurringInterval.ONE_OFF and "recurring_details" not in named
    return ("cron", "run_at") if "recurring_interval" in named and not is_added else ()


def _refuse(errors: Errors) -> None:
    if errors:
        raise invalid_content(errors)


def _time(wanted: NewTask, now: datetime, before: Timing | None) -> tuple[Timing, Errors]:
    """What is over would never be due, and is refused, unless it is what it was before."""
    try:
        schedule = _build(wanted)
    except InvalidSchedule as exc:
        return Timing(), _point(exc)
    interval = wanted.recurring_interval
    has_details = interval is not None and wanted.cron is None and wanted.run_at is None
    timing = Timing(
        recurring_interval=interval,
        recurring_details=RecurringDetails.read(wanted.recurring_details).to_dict() if has_details else None,
        cron=wanted.cron,
        timezone=wanted.timezone,
        run_at=schedule.run_at,
        start_at=schedule.start_at,
        end_at=schedule.end_at,
    )
    if timing == before or schedule.next_after(now):
        return timing, []
    pointer = "/run_at" if wanted.run_at else "/end_at"
    return timing, [{"detail": "is over: the task would never be due", "pointer": pointer}]


def _build(wanted: WhenDue) -> Schedule:
    return Schedule.build(
        recurring_interval=wanted.recurring_interval,
        recurring_details=wanted.recurring_details,
        cron=wanted.cron,
        timezone=wanted.timezone,
        run_at=wanted.run_at,
        start_at=wanted.start_at,
        end_at=wanted.end_at,
    )


def _point(exc: InvalidSchedule) -> Errors:
    return [{"detail": detail, "pointer": f"/{field}"} for field, detail in exc.errors]


def _complete(wanted: NewTask, timing: Timing) -> TaskDefinition:
    return TaskDefinition(
        name=wanted.name,
        job_name=wanted.job_name,
        timing=timing,
        args=wanted.args,
        enabled=wanted.enabled,
        misfire=wanted.misfire,
        overlap=wanted.overlap,
        max_attempts=wanted.retries + 1,
        backoff_s=wanted.backoff_s,
        time_limit_s=wanted.time_limit_s,
    )
