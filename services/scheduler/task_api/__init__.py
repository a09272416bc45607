"""The HTTP API of tasks: `/api/tasks.*`, `/v1/tasks`, `/v1/jobs`, `/v1/runs`.

`bodies`, `answers` the models (`fields`, `examples` what they are made of) · `defining`, `showing` between them and
what is stored · `commands` what can be done, for both forms · `rpc`, `rest`, `job_routes` the routes · `envelope` the
answers of the first form.
"""

from services.scheduler.task_api.setup import PREFIXES, setup_tasks

__all__ = ["PREFIXES", "setup_tasks"]
