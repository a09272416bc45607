"""`/v1/jobs`: what tasks can be made of, and runs without a task; `/v1/runs`: what became of one."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Path, Request, Response

from services.scheduler.runs.job import Job as RegisteredJob
from services.scheduler.task_api.answers import JobList, Run, RunAccepted
from services.scheduler.task_api.bodies import JobRunRequest
from services.scheduler.task_api.commands import Tasks
from services.scheduler.task_api.describing import describe_answers
from services.scheduler.task_api.examples import JOB_RUN
from services.scheduler.task_api.rest import RUNS, accept_run
from services.scheduler.task_api.rpc import Admit
from services.scheduler.task_api.showing import show_job, show_run
from shared.apidocs import IDEMPOTENCY_KEY, describe_body
from shared.bodies import read_model
from shared.idempotency_key import read_idempotency_key

PATH = "/v1/jobs"

_TAG: Any = ["Jobs"]


def setup_jobs(
    app: FastAPI,
    admit: Admit,
    tasks: Tasks,
    jobs: Mapping[str, RegisteredJob],
    defaults: Mapping[str, Mapping[str, Any]],
) -> None:
    """Add the routes. `defaults`: of arguments, by job."""
    shown = JobList(data=[show_job(jobs[name], defaults.get(name, {})) for name in sorted(jobs)])

    @app.get(PATH, tags=_TAG, summary="List jobs", responses=describe_answers(401, 403, 503))
    async def list_jobs(request: Request) -> JobList:
        """Every job of the registry, with the JSON Schema of its arguments."""
        await admit(request)
        return shown

    @app.post(
        f"{PATH}/{{name}}/run",
        tags=_TAG,
        summary="Run a job now",
        status_code=202,
        responses=describe_answers(401, 403, 404, 422, 503),
        openapi_extra=describe_body({"application/json": (JobRunRequest, JOB_RUN)}, required=False) | IDEMPOTENCY_KEY,
    )
    async def run_job(
        name: Annotated[str, Path(max_length=200, description="of the job", examples=["send_email"])],
        request: Request,
        response: Response,
    ) -> RunAccepted:
        """Runs a job once, now, without a task. The arguments are checked at once by the job's own model."""
        key = await admit(request)
        wanted = await read_model(request, JobRunRequest)
        return accept_run(await tasks.run_job(key, name, wanted, read_idempotency_key(request)), response)

    @app.get(f"{RUNS}/{{run_id}}", tags=_TAG, summary="One run", responses=describe_answers(401, 403, 404, 422, 503))
    async def read_run(run_id: UUID, request: Request) -> Run:
        """What became of a run: its result, or why it failed. Kept for 30 days (`MILENA_RESULT_RETENTION`)."""
        return show_run(await tasks.find_run(await admit(request), run_id))
