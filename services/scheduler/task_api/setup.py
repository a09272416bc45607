"""How the API of tasks hangs together."""

from fastapi import Request
from starlette.types import ASGIApp

from services.scheduler.runs.job import InvalidJob
from services.scheduler.runs.loading import load_jobs
from services.scheduler.runs.occurrence_store import OccurrenceStore
from services.scheduler.runs.settings import JobSettings
from services.scheduler.task_api import job_routes, rest
from services.scheduler.task_api.answers import FailureEnvelope
from services.scheduler.task_api.bodies import (
    JobRunRequest,
    NewTask,
    PageChoice,
    PreviewRequest,
    TaskChanges,
    TaskChoice,
    TaskUpdate,
)
from services.scheduler.task_api.commands import Tasks
from services.scheduler.task_api.defining import Definer
from services.scheduler.task_api.envelope import PREFIX, Envelopes
from services.scheduler.task_api.rpc import setup_commands
from services.scheduler.tasks.store import TaskStore
from shared.access import ApiKey, ApiScope
from shared.apidocs import add_schemas
from shared.applications import DatabaseApi
from shared.authenticating import authenticate

PREFIXES = (PREFIX, rest.PATH, rest.RUNS, job_routes.PATH)


def setup_tasks(api: DatabaseApi, settings: JobSettings) -> None:
    """Add the routes, each of which needs the scope `tasks:admin`. Jobs that cannot be loaded end the start."""
    app, defaults = api.app, settings.job_defaults
    try:
        jobs = load_jobs(settings.job_modules)
    except InvalidJob as exc:
        raise SystemExit(str(exc)) from None
    tasks = Tasks(TaskStore(api.database), OccurrenceStore(api.database), Definer(jobs, defaults))

    async def admit(request: Request) -> ApiKey:
        return await authenticate(request, api.keys, ApiScope.TASKS_ADMIN)

    setup_commands(app, admit, tasks)
    rest.setup_resources(app, admit, tasks)
    job_routes.setup_jobs(app, admit, tasks, jobs, defaults)
    add_schemas(
        app, NewTask, TaskChanges, TaskUpdate, TaskChoice, PageChoice, PreviewRequest, JobRunRequest, FailureEnvelope
    )
    build_stack = app.build_middleware_stack

    def build() -> ASGIApp:
        return Envelopes(build_stack())

    app.build_middleware_stack = build  # type: ignore[method-assign]
