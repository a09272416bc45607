"""What a task must be like, what an edit makes of it, and how answers of `/api/tasks.*` look."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel, model_validator

from services.scheduler.runs.built_in import EmailArgs, list_senders
from services.scheduler.runs.job import Job, JobContext, describe_job
from services.scheduler.task_api.bodies import NewTask, PreviewRequest, TaskChanges
from services.scheduler.task_api.commands import Tasks, preview
from services.scheduler.task_api.defining import Definer
from services.scheduler.task_api.envelope import Envelopes
from services.scheduler.task_api.rest import setup_resources
from services.scheduler.task_api.showing import show_job, show_task
from services.scheduler.tasks.task import Creator, Misfire, Task, TaskDefinition, TaskStatus
from shared.access import ApiKey
from shared.bodies import parse_model
from shared.problems import Problem, setup_problems
from shared.settings import HttpSettings, parse_networks
from shared.web import setup_web
from tests.support.gateway import make_key

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
KEY = make_key("*@example.com")
MAIL = {"from": "no-reply@example.com", "to": "ann@example.org", "subject": "S", "text": "T"}
DAILY = {"name": "n", "job_name": "send_email", "args": MAIL, "recurring_interval": "EVERY_DAY"}


class CountArgs(BaseModel):
    until: int
    secret: str = ""


async def send(args: EmailArgs, context: JobContext) -> None:
    """Send."""


async def count(args: CountArgs) -> None:
    """Count."""


def make_definer(**defaults: Mapping[str, Any]) -> Definer:
    jobs: dict[str, Job] = {
        "send_email": describe_job("send_email", send, list_senders=list_senders),
        "count": describe_job("count", count),
    }
    return Definer(jobs, defaults)


def define(definer: Definer | None = None, /, **fields: Any) -> TaskDefinition:
    return (definer or make_definer()).define(parse_model(fields, NewTask), KEY, NOW)


def change(before: TaskDefinition, definer: Definer | None = None, /, **fields: Any) -> TaskDefinition:
    return (definer or make_definer()).change(before, parse_model(fields, TaskChanges), KEY, NOW)


def nest(levels: int) -> Any:
    return {"a": nest(levels - 1)} if levels else 1


def pointers(caught: pytest.ExceptionInfo[Problem]) -> list[str]:
    assert caught.value.status == 422
    return sorted(each["pointer"] for each in caught.value.errors)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, ["/job_name", "/name"]),
        ({**DAILY, "name": " "}, ["/name"]),
        ({**DAILY, "name": "a\nb"}, ["/name"]),
        ({**DAILY, "nmae": "x"}, ["/nmae"]),
        ({**DAILY, "enabled": "yes"}, ["/enabled"]),
        ({**DAILY, "misfire": "later"}, ["/misfire"]),
        ({**DAILY, "overlap": "queue"}, ["/overlap"]),
        ({**DAILY, "retries": 21, "backoff_s": 0, "time_limit_s": -1}, ["/backoff_s", "/retries", "/time_limit_s"]),
        ({**DAILY, "job_name": "unknown"}, ["/job_name"]),
        ({**DAILY, "job_name": "external:"}, ["/job_name"]),
        ({**DAILY, "recurring_interval": "EVERY_BLUE_MOON"}, ["/recurring_interval"]),
        ({**DAILY, "recurring_interval": None}, ["/recurring_interval"]),
        ({**DAILY, "recurring_details": '{"minute": '}, ["/recurring_details"]),
        ({**DAILY, "recurring_details": "[1]"}, ["/recurring_details"]),
        (
            {**DAILY, "recurring_details": {"minute": "61", "hour": "x"}},
            ["/recurring_details/hour", "/recurring_details/minute"],
        ),
        ({**DAILY, "recurring_details": {"day_of_week": "1"}}, ["/recurring_details/day_of_week"]),
        ({**DAILY, "cron": "0 9 * * *"}, ["/recurring_interval"]),
        ({**DAILY, "recurring_interval": None, "cron": "99 9 * * *"}, ["/cron"]),
        ({**DAILY, "timezone": "Europe/Berln"}, ["/timezone"]),
        ({**DAILY, "recurring_interval": None, "run_at": "2026-11-28T11:59:59Z"}, ["/run_at"]),
        ({**DAILY, "recurring_interval": None, "run_at": "soon"}, ["/run_at"]),
        ({**DAILY, "recurring_interval": None, "run_at": "9999-12-31T23:59:59-12:00"}, ["/run_at"]),
        ({**DAILY, "end_at": "2026-11-28T12:00:00Z"}, ["/end_at"]),
        ({**DAILY, "args": {}}, ["/args/from", "/args/html", "/args/subject", "/args/to"]),
        ({**DAILY, "args": {"from": "no-reply@example.com", "cc": "x", "text": "T"}}, ["/args/cc", "/args/subject"]),
        (
            {**DAILY, "args": {"headers": {"From": "x"}, "to": "a@b.de"}},
            ["/args/from", "/args/headers/From", "/args/html", "/args/subject"],
        ),
        ({**DAILY, "args": {**MAIL, "to": "nobody", "colour": "red"}}, ["/args/colour", "/args/to"]),
        ({**DAILY, "args": {"text": "y" * 300_000}}, ["/args"]),
        ({**DAILY, "args": {"variables": nest(40)}}, ["/args"]),
        ({**DAILY, "timezone": "Nowhere", "job_name": "unknown"}, ["/job_name", "/timezone"]),
    ],
)
def test_everything_that_is_wrong_is_pointed_at_at_once(fields: dict[str, Any], wrong: list[str]) -> None:
    with pytest.raises(Problem) as caught:
        define(**fields)
    assert pointers(caught) == wrong


def test_an_unknown_job_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(Problem) as caught:
        define(**{**DAILY, "job_name": "send_mail"})
    assert "count, send_email; external:… is published for others" in caught.value.errors[0]["detail"]


def test_arguments_are_laid_over_the_jobs_defaults_and_kept_as_given() -> None:
    definer = make_definer(send_email=MAIL)
    made = define(definer, **{**DAILY, "args": {"subject": "Other"}})
    assert made.args == {"subject": "Other"}
    with pytest.raises(Problem) as caught:
        define(definer, **{**DAILY, "args": {"subject": 7}})
    assert pointers(caught) == ["/args/subject"]


def test_a_mail_may_only_be_from_an_address_of_the_key_that_asks() -> None:
    refused = {**MAIL, "from": "ann@other.example", "envelope_from": "bounce@other.example"}
    made = define(**DAILY)
    for attempt in (
        lambda: define(**{**DAILY, "args": refused}),
        lambda: define(make_definer(send_email=refused), **{**DAILY, "args": {}}),
        lambda: change(made, args=refused),
        lambda: make_definer().check_run("send_email", refused, KEY),
    ):
        with pytest.raises(Problem) as caught:
            attempt()
        assert (caught.value.status, caught.value.slug) == (403, "sender-not-allowed")
        assert [each["pointer"] for each in caught.value.errors] == ["/args/from", "/args/envelope_from"]


def test_what_others_run_takes_any_arguments() -> None:
    made = define(**{**DAILY, "job_name": "external:shop.report", "args": {"anything": [1]}})
    assert made.is_external
    assert made.args == {"anything": [1]}


def test_times_without_an_offset_are_the_zones() -> None:
    made = define(
        **{**DAILY, "timezone": "Europe/Berlin", "start_at": "2027-07-01T00:00", "end_at": "2027-08-01T00:00:00Z"}
    )
    assert made.timing.start_at == datetime(2027, 6, 30, 22, tzinfo=UTC)
    assert made.timing.end_at == datetime(2027, 8, 1, tzinfo=UTC)


def test_details_may_be_a_string_or_an_object_and_are_kept_as_an_object() -> None:
    for given in ('{"minute": 30, "hour": "8"}', {"minute": "30", "hour": 8}):
        made = define(**{**DAILY, "recurring_details": given})
        assert made.timing.recurring_details == {
            **dict.fromkeys(("day_of_month", "day_of_week", "month_of_year"), "*"),
            "minute": "30",
            "hour": "8",
        }


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"name": "m"}, ("EVERY_DAY", "30", None)),
        ({"recurring_interval": "EVERY_HOUR"}, ("EVERY_HOUR", "30", None)),
        ({"recurring_details": {}}, ("EVERY_DAY", "*", None)),
        ({"cron": "5 * * * *"}, (None, None, "5 * * * *")),
        ({"cron": "5 * * * *", "recurring_interval": "ONE_OFF"}, ("ONE_OFF", None, "5 * * * *")),
        ({"run_at": "2027-01-01T00:00:00Z"}, (None, None, None)),
    ],
)
def test_one_way_to_say_when_takes_the_place_of_another(given: dict[str, Any], left: tuple[Any, ...]) -> None:
    before = define(**{**DAILY, "recurring_details": {"minute": "30"}})
    timing = change(before, **given).timing
    assert (timing.recurring_interval, (timing.recurring_details or {}).get("minute"), timing.cron) == left
    back = change(change(before, cron="5 * * * *"), recurring_interval="EVERY_DAY").timing
    assert (back.cron, back.recurring_interval) == (None, "EVERY_DAY")


def test_one_off_stays_with_a_cron_line_and_may_be_added_to_one() -> None:
    once = define(**{**DAILY, "cron": "5 * * * *", "recurring_interval": "ONE_OFF"})
    later = change(once, cron="6 * * * *").timing
    assert (later.recurring_interval, later.cron) == ("ONE_OFF", "6 * * * *"), "it does not begin to recur"
    recurring = define(**{**DAILY, "cron": "5 0 1 1 *", "recurring_interval": None})
    ended = change(recurring, recurring_interval="ONE_OFF").timing
    assert (ended.recurring_interval, ended.cron) == ("ONE_OFF", "5 0 1 1 *"), "not: once, in the next minute"
    other = change(recurring, recurring_interval="ONE_OFF", recurring_details={"hour": "3"}).timing
    assert (other.recurring_interval, other.cron) == ("ONE_OFF", None)
    assert change(once, recurring_interval=None).timing.cron == "5 * * * *"


def test_a_model_that_fails_itself_refuses_the_arguments() -> None:
    class Fragile(BaseModel):
        @model_validator(mode="before")
        @classmethod
        def _look(cls, data: Any) -> Any:
            return data["month"]

    def report(args: Fragile) -> None: ...

    with pytest.raises(Problem) as caught:
        define(Definer({"report": describe_job("report", report)}, {}), **{**DAILY, "job_name": "report"})
    assert pointers(caught) == ["/args"]


def test_a_change_leaves_what_it_does_not_name_and_the_whole_has_to_be_right() -> None:
    before = define(**{**DAILY, "retries": 3, "misfire": "skip", "end_at": "2027-01-01T00:00:00Z", "time_limit_s": 5})
    after = change(before, name="m", end_at=None, time_limit_s=None)
    assert (after.name, after.max_attempts, after.misfire, after.args) == ("m", 4, Misfire.SKIP, MAIL)
    assert (after.timing.end_at, after.time_limit_s) == (None, None)
    with pytest.raises(Problem) as caught:
        change(before, recurring_details={"day_of_week": "1"})
    assert pointers(caught) == ["/recurring_details/day_of_week"]
    with pytest.raises(Problem) as caught:
        change(before, job_name="count")
    assert pointers(caught) == ["/args/until"]
    with pytest.raises(Problem) as caught:
        change(before, name=None, enabled=None)
    assert pointers(caught) == ["/enabled", "/name"]


def test_a_task_whose_job_is_gone_or_whose_time_is_over_can_still_be_paused() -> None:
    gone = Definer({}, {})
    assert change(define(**DAILY), gone, enabled=False).enabled is False
    with pytest.raises(Problem):
        change(define(**DAILY), gone, job_name="send_email")
    once = define(**{**DAILY, "recurring_interval": None, "run_at": "2026-11-28T13:00:00Z"})
    later = datetime(2027, 1, 1, tzinfo=UTC)
    changes = parse_model({"enabled": False, "run_at": "2026-11-28T13:00:00Z"}, TaskChanges)
    assert make_definer().change(once, changes, KEY, later).enabled is False


def test_a_preview_is_in_the_tasks_zone() -> None:
    wanted = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "after": "2027-03-26T12:00", "count": 3}
    schedule, upcoming = preview(parse_model(wanted, PreviewRequest))
    assert schedule.zone.key == "Europe/Berlin"
    assert [each.isoformat() for each in upcoming] == [
        "2027-03-27T02:30:00+01:00",
        "2027-03-28T03:00:00+02:00",
        "2027-03-29T02:30:00+02:00",
    ]


def test_a_job_is_shown_with_what_it_needs_and_without_what_its_defaults_are() -> None:
    shown = show_job(describe_job("count", count), {"until": 3, "secret": "hush"})
    assert "required" not in shown.args_schema
    assert shown.defaults == ["secret", "until"]
    assert "hush" not in shown.model_dump_json()
    assert show_job(describe_job("count", count), {}).args_schema["required"] == ["until"]


def test_a_task_whose_zone_is_no_more_is_shown_all_the_same() -> None:
    made = define(**{**DAILY, "timezone": "Europe/Berlin"})
    gone = replace(made, timing=replace(made.timing, timezone="Europe/Atlantis"))
    times: dict[str, Any] = {"created_at": NOW, "updated_at": NOW, "next_due_at": NOW}
    creator, status = Creator("k", "n"), TaskStatus.CREATED
    shown = show_task(Task(id=1, account="a", definition=gone, creator=creator, status=status, **times))
    assert (shown.timezone, shown.upcoming) == ("Europe/Atlantis", [])
    assert "IANA" in (shown.schedule.text or "")


def build_app(**fields: Any) -> Envelopes:
    app = FastAPI()
    setup_web(app, HttpSettings(**fields), {}, body_limit=100)

    @app.post("/api/tasks.echo")
    async def echo(request: Request) -> dict[str, Any]:
        return {"data": (await request.body()).decode(), "error": None, "success": True}

    @app.post("/api/tasks.fail")
    async def fail() -> None:
        raise RuntimeError("secret detail")

    @app.get("/v1/tasks")
    async def refuse() -> None:
        raise Problem(409, "task-exists", "It exists.")

    return Envelopes(app)


async def ask(app: Envelopes, method: str, path: str, content: bytes = b"") -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, content=content)


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "slug"),
    [
        ("POST", "/api/tasks.fail", b"", 500, "internal-error"),
        ("POST", "/api/tasks.fail/", b"", 500, "internal-error"),
        ("GET", "/api/tasks.echo", b"", 405, "method-not-allowed"),
        ("POST", "/api/tasks.nothing", b"", 404, "not-found"),
        ("POST", "/api/tasks.echo", b"x" * 101, 413, "too-large"),
    ],
)
async def test_every_failure_of_a_command_comes_in_the_envelope(
    method: str, path: str, content: bytes, status: int, slug: str
) -> None:
    answer = await ask(build_app(), method, path, content)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    envelope = answer.json()
    assert (list(envelope), envelope["data"], envelope["success"]) == (["data", "error", "success"], None, False)
    error = envelope["error"]
    assert (error["status"], error["type"]) == (status, f"/problems/{slug}")
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "secret" not in answer.text
    assert ("allow" in answer.headers) is (status == 405)


async def test_what_is_turned_away_before_any_route_comes_in_the_envelope_too() -> None:
    app = build_app(allowed_networks=parse_networks("192.0.2.0/24"))
    answer = await ask(app, "POST", "/api/tasks.echo")
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "/problems/network-not-allowed")
    assert (await ask(app, "GET", "/v1/tasks")).headers["content-type"] == "application/problem+json"


async def test_a_slash_at_the_end_means_nothing_and_other_paths_keep_their_problems() -> None:
    app = build_app()
    for path in ("/api/tasks.echo", "/api/tasks.echo/"):
        assert (await ask(app, "POST", path, b"hello")).json() == {"data": "hello", "error": None, "success": True}
    answer = await ask(app, "GET", "/v1/tasks")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/task-exists")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_what_a_task_cannot_be_told_when_it_is_run_is_refused_and_not_passed_over() -> None:
    app = FastAPI()
    setup_problems(app)

    async def admit(request: Request) -> ApiKey:
        return KEY

    setup_resources(app, admit, cast(Tasks, None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.post("/v1/tasks/1/run", json={"args": {"until": 3}})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"detail": "unknown field", "pointer": "/args"}]
