"""`/api/tasks.create | info | update | delete | list`: the commands by name, their answers in envelopes."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, Query, Request, Response

from services.scheduler.task_api.answers import TaskEnvelope, TasksEnvelope
from services.scheduler.task_api.bodies import NewTask, PageChoice, TaskChoice, TaskUpdate
from services.scheduler.task_api.commands import Tasks
from services.scheduler.task_api.describing import describe_envelopes
from services.scheduler.task_api.envelope import PREFIX
from services.scheduler.task_api.examples import CHOICE, NEW_TASK, PAGE, UPDATE
from services.scheduler.task_api.showing import show_task, show_tasks
from shared.access import ApiKey
from shared.apidocs import describe_body
from shared.bodies import read_model

Admit = Callable[[Request], Awaitable[ApiKey]]
"""The key of a caller who may administer tasks. Raises Problem 401, 403, 429 or 503."""

_TAG: Any = ["Tasks (commands)"]


def setup_commands(app: FastAPI, admit: Admit, tasks: Tasks) -> None:
    """Add the routes."""
    _setup_changing(app, admit, tasks)
    _setup_info(app, admit, tasks)
    _setup_list(app, admit, tasks)


def _setup_changing(app: FastAPI, admit: Admit, tasks: Tasks) -> None:
    @app.post(
        f"{PREFIX}create",
        tags=_TAG,
        summary="Make a task",
        responses=describe_envelopes(409),
        openapi_extra=describe_body({"application/json": (NewTask, NEW_TASK)}),
    )
    async def create(request: Request) -> TaskEnvelope:
        """Makes a task of a job. It is due by an interval with its details, by a cron line, or once at a time.

        The arguments, laid over the job's defaults, are checked at once by the job's own model.
        """
        key = await admit(request)
        return TaskEnvelope(data=show_task(await tasks.create(key, await read_model(request, NewTask))))

    @app.post(
        f"{PREFIX}update",
        tags=_TAG,
        summary="Change a task",
        responses=describe_envelopes(404, 409),
        openapi_extra=describe_body({"application/json": (TaskUpdate, UPDATE)}),
    )
    async def update(request: Request) -> TaskEnvelope:
        """Changes what is given; the task as a whole has to be right. What was due before is not made up for.

        A task that has ended (`ONE_OFF`) is armed anew by any change. One way to say when it is due takes the place of
        another: a `cron` that of the interval.
        """
        key = await admit(request)
        changes = await read_model(request, TaskUpdate)
        return TaskEnvelope(data=show_task(await tasks.update(key, changes.id, changes)))

    @app.post(
        f"{PREFIX}delete",
        tags=_TAG,
        summary="Delete a task",
        responses=describe_envelopes(404),
        openapi_extra=describe_body({"application/json": (TaskChoice, CHOICE)}),
    )
    async def delete(request: Request) -> TaskEnvelope:
        """Deletes a task, and answers with it. A run that has begun goes on to its end; runs stay in history."""
        key = await admit(request)
        choice = await read_model(request, TaskChoice)
        return TaskEnvelope(data=show_task(await tasks.delete(key, choice.id)))


def _setup_info(app: FastAPI, admit: Admit, tasks: Tasks) -> None:
    responses = describe_envelopes(404)

    @app.post(
        f"{PREFIX}info",
        tags=_TAG,
        summary="One task",
        responses=responses,
        openapi_extra=describe_body({"application/json": (TaskChoice, CHOICE)}),
    )
    async def post_info(request: Request) -> TaskEnvelope:
        """A task, the status of its latest run, and when it is due next."""
        key = await admit(request)
        choice = await read_model(request, TaskChoice)
        return TaskEnvelope(data=show_task(await tasks.find(key, choice.id)))

    @app.get(f"{PREFIX}info", tags=_TAG, summary="One task, by GET", responses=responses)
    async def get_info(choice: Annotated[TaskChoice, Query()], request: Request) -> TaskEnvelope:
        """A task, the status of its latest run, and when it is due next."""
        return TaskEnvelope(data=show_task(await tasks.find(await admit(request), choice.id)))


def _setup_list(app: FastAPI, admit: Admit, tasks: Tasks) -> None:
    async def show_list(key: ApiKey, page: PageChoice, response: Response) -> TasksEnvelope:
        found, more = await tasks.list_some(key, page)
        if more:
            response.headers["link"] = f'<{PREFIX}list?limit={page.limit}&after={quote(more)}>; rel="next"'
        return TasksEnvelope(data=show_tasks(found))

    responses = describe_envelopes()
    responses[200] = {
        "headers": {"Link": {"description": '`rel="next"`: where there are more', "schema": {"type": "string"}}}
    }

    @app.post(
        f"{PREFIX}list",
        tags=_TAG,
        summary="List tasks",
        responses=responses,
        openapi_extra=describe_body({"application/json": (PageChoice, PAGE)}, required=False),
    )
    async def post_list(request: Request, response: Response) -> TasksEnvelope:
        """The account's tasks in the order they were made."""
        key = await admit(request)
        return await show_list(key, await read_model(request, PageChoice), response)

    @app.get(f"{PREFIX}list", tags=_TAG, summary="List tasks, by GET", responses=responses)
    async def get_list(page: Annotated[PageChoice, Query()], request: Request, response: Response) -> TasksEnvelope:
        """The account's tasks in the order they were made."""
        return await show_list(await admit(request), page, response)
