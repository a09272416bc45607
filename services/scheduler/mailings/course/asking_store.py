"""The scheduled tasks of mailings, and runs of them that are asked for before their time."""

from services.scheduler.tasks.store import DuplicateName, TaskStore
from services.scheduler.tasks.task import Creator, Misfire, TaskDefinition, Timing
from shared.database import Database
from shared.events import new_email_id

START, SEND, FINISH = "start_mailing", "send_message", "finish_mailing"
JOBS = (START, SEND, FINISH)
_TIME_LIMIT_S = 3600.0  # an audience of millions is taken in by one run


class AskingStore:
    """Every method raises DatabaseUnavailable and may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tasks = TaskStore(database)

    async def seed(self, account: str, every_s: int) -> None:
        """See to it that the account has the three tasks. What it has changed about them stays."""
        rows = await self._database.fetch(
            "SELECT name FROM scheduler.task WHERE account = $1 AND name = ANY($2::text[])", account, JOBS
        )
        known = {row["name"] for row in rows}
        for name in JOBS:
            if name not in known:
                await self._create(account, name, every_s)

    async def _create(self, account: str, name: str, every_s: int) -> None:
        definition = TaskDefinition(
            name=name, job_name=name, timing=_time(every_s), misfire=Misfire.SKIP, time_limit_s=_TIME_LIMIT_S
        )
        try:
            await self._tasks.create(account, definition, Creator())
        except DuplicateName:
            return  # somebody else has just made it

    async def ask(self, account: str, job: str) -> None:
        """Have the job run now, as a run of its task, unless a run waits to begin in any case."""
        await self._database.fetch(_ASK, new_email_id(), account, job, _TIME_LIMIT_S)


def _time(every_s: int) -> Timing:
    """A cron line has minutes."""
    minutes = max(1, round(every_s / 60))
    if minutes < 60:
        return Timing(cron=f"*/{minutes} * * * *")
    return Timing(cron=f"0 */{min(23, minutes // 60)} * * *")


_ASK = """
    INSERT INTO scheduler.occurrence
           (id, account, task_id, name, job_name, args, scheduled_for, by_hand, state, max_attempts, backoff_s,
            time_limit_s)
    SELECT $1, $2, (SELECT id FROM scheduler.task WHERE account = $2 AND name = $3 AND job_name = $3), $3, $3, '{}',
           now(), true, 'ready', 1, 30, $4
    WHERE NOT EXISTS (
        SELECT FROM scheduler.occurrence
        WHERE account = $2 AND job_name = $3 AND state IN ('pending', 'published', 'ready') AND due_at <= now())
"""
