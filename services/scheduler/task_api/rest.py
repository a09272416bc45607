"""`/v1/tasks`: the same commands as resources, and their runs."""

from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request, Response

from services.scheduler.runs.occurrence import Occurrence
from services.scheduler.task_api.answers import Preview, RunAccepted, RunPage, Task, TaskPage
from services.scheduler.task_api.bodies import NewTask, PageChoice, PreviewRequest, TaskChanges, TaskRunRequest
from services.scheduler.task_api.commands import Tasks, preview
from services.scheduler.task_api.describing import describe_answers
from services.scheduler.task_api.examples import CHANGES, NEW_TASK, PREVIEW
from services.scheduler.task_api.fields import TaskId
from services.scheduler.task_api.rpc import Admit
from services.scheduler.task_api.showing import show_run, show_schedule, show_task, show_tasks
from shared.apidocs import IDEMPOTENCY_KEY, describe_body
from shared.bodies import parse_model, read_changes, read_model
from shared.idempotency_key import read_idempotency_key

PATH = "/v1/tasks"
RUNS = "/v1/runs"

_TAG: Any = ["Tasks"]
_Id = Annotated[TaskId, Path()]


def setup_resources(app: FastAPI, admit: Admit, tasks: Tasks) -> None:
    """Add the routes."""
    _setup_many(app, admit, tasks)
    _setup_one(app, admit, tasks)
    _setup_runs(app, admit, tasks)


def accept_run(run: Occurrence, response: Response) -> RunAccepted:
    """Say where to look."""
    response.headers["location"] = f"{RUNS}/{run.id}"
    return RunAccepted(run_id=run.id, status=show_run(run).status)


def _setup_many(app: FastAPI, admit: Admit, tasks: Tasks) -> None:
    @app.post(
        PATH,
        tags=_TAG,
        summary="Make a task",
        status_code=201,
        responses=describe_answers(401, 403, 409, 422, 503),
        openapi_extra=describe_body({"application/json": (NewTask, NEW_TASK)}),
    )
    async def create_task(request: Request, response: Response) -> Task:
        """Makes a task of a job. It is due by an interval with its details, by a cron line, or once at a time.

        The arguments, laid over the job's defaults, are checked at once by the job's own model.
        """
        key = await admit(request)
        task = await tasks.create(key, await read_model(request, NewTask))
        response.headers["location"] = f"{PATH}/{task.id}"
        return show_task(task)

    @app.get(PATH, tags=_TAG, summary="List tasks", responses=describe_answers(401, 403, 422, 503))
    async def list_tasks(page: Annotated[PageChoice, Query()], request: Request) -> TaskPage:
        """The account's tasks in the order they were made."""
        found, more = await tasks.list_some(await admit(request), page)
        return TaskPage(data=show_tasks(found), next=more)

    @app.post(
        f"{PATH}/preview",
        tags=_TAG,
        summary="When a task would be due",
        responses=describe_answers(401, 403, 422, 503),
        openapi_extra=describe_body({"application/json": (PreviewRequest, PREVIEW)}),
    )
    async def preview_task(request: Request) -> Preview:
        """The due times of a schedule, in its zone, without making anything."""
        await admit(request)
        schedule, upcoming = preview(await read_model(request, PreviewRequest))
        return Preview(schedule=show_schedule(schedule), upcoming=upcoming)


def _setup_one(app: FastAPI, admit: Admit, tasks: Tasks) -> None:
    @app.get(f"{PATH}/{{task_id}}", tags=_TAG, summary="One task", responses=describe_answers(401, 403, 404, 422, 503))
    async def read_task(task_id: _Id, request: Request) -> Task:
        """A task, the status of its latest run, and when it is due next."""
        return show_task(await tasks.find(await admit(request), task_id))

    @app.patch(
        f"{PATH}/{{task_id}}",
        tags=_TAG,
        summary="Change a task",
        responses=describe_answers(401, 403, 404, 409, 422, 503),
        openapi_extra=describe_body({"application/json": (TaskChanges, CHANGES)}),
    )
    async def change_task(task_id: _Id, request: Request) -> Task:
        """Changes what is given; the task as a whole has to be right. What was due before is not made up for.

        A task that has ended (`ONE_OFF`) is armed anew by any change. One way to say when it is due takes the place of
        another: a `cron` that of the interval.
        """
        key = await admit(request)
        changes = parse_model(await read_changes(request), TaskChanges)
        return show_task(await tasks.update(key, task_id, changes))

    @app.delete(
        f"{PATH}/{{task_id}}", tags=_TAG, summary="Delete a task", responses=describe_answers(401, 403, 404, 422, 503)
    )
    async def delete_task(task_id: _Id, request: Request) -> Task:
        """Deletes a task, and answers with it. A run that has begun goes on to its end; runs stay in history."""
        return show_task(await tasks.delete(await admit(request), task_id))


def _setup_runs(app: FastAPI, admit: Admit, tasks: Tasks) -> None:
    @app.post(
        f"{PATH}/{{task_id}}/run",
        tags=_TAG,
        summary="Run a task now",
        status_code=202,
        responses=describe_answers(400, 401, 403, 404, 409, 422, 503),
        openapi_extra=IDEMPOTENCY_KEY,
    )
    async def run_task(task_id: _Id, request: Request, response: Response) -> RunAccepted:
        """Runs a task once, now, also where it is disabled; its own due times stay as they are.

        It takes no body: the arguments are the task's. `POST /v1/jobs/{name}/run` runs a job with others.
        """
        key = await admit(request)
        await read_model(request, TaskRunRequest)
        return accept_run(await tasks.run(key, task_id, read_idempotency_key(request)), response)

    @app.get(
        f"{PATH}/{{task_id}}/runs",
        tags=_TAG,
        summary="Runs of a task",
        responses=describe_answers(401, 403, 404, 422, 503),
    )
    async def list_runs(task_id: _Id, page: Annotated[PageChoice, Query()], request: Request) -> RunPage:
        """What became of each run, the latest due time first; also of a task that was deleted.

        Runs are kept for 30 days after their end (`MILENA_RESULT_RETENTION`).
        """
        found, more = await tasks.list_runs(await admit(request), task_id, page)
        return RunPage(data=[show_run(each) for each in found], next=more)
