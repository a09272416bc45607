"""The registry of jobs: what can be one, what its arguments are, how packages come into it."""

import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import BaseModel, ValidationError

from services.scheduler import jobs
from services.scheduler.jobs import FUNCTIONS, InvalidJob, find_job, job
from services.scheduler.runs import loading
from services.scheduler.runs.endings import RESULT_LIMIT, fail, find_backoff, say, succeed
from services.scheduler.runs.job import JobContext, describe_job
from services.scheduler.runs.loading import ENTRY_POINTS, load_jobs
from services.scheduler.runs.occurrence import OccurrenceState
from shared.due import DueRow
from tests.support.tasks import THIRD_PARTY


class Args(BaseModel):
    month: int


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone after it."""
    kept = dict(FUNCTIONS)
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    yield
    FUNCTIONS.clear()
    FUNCTIONS.update(kept)
    for name in [name for name in sys.modules if name.startswith("shop_jobs")]:
        del sys.modules[name]


def test_an_installed_package_and_a_module_named_in_the_settings_fill_the_registry() -> None:
    found = load_jobs(["shop_jobs.more"])
    assert {"send_email", "purge_history", "shop.add", "shop.double", "shop.more"} <= set(found)
    assert found["shop.add"].args_model.model_json_schema()["required"] == ["a"]
    assert found["shop.add"].is_async
    assert not found["shop.double"].is_async
    assert found["shop.add"].description == "Add two numbers."


def test_a_package_that_cannot_be_imported_stops_nobody_but_a_named_module_stops_the_start() -> None:
    assert "broken" not in load_jobs([])
    with pytest.raises(InvalidJob, match=r"MILENA_JOB_MODULES: shop_jobs.gone cannot be imported: ModuleNotFoundError"):
        load_jobs(["shop_jobs.gone"])


def test_two_jobs_may_not_have_one_name_but_a_module_may_be_imported_twice() -> None:
    def report() -> None: ...

    job("report")(report)
    job("report")(report)
    with pytest.raises(InvalidJob, match="has that name already"):
        job("report")(lambda: None)
    with pytest.raises(InvalidJob, match="send_email"):
        job("send_email")(report)


def test_a_plain_function_may_be_put_into_the_dict() -> None:
    def report(args: Args) -> int:
        """Say the month."""
        return args.month

    FUNCTIONS["report"] = report
    found = find_job("report")
    assert found is not None
    assert (found.args_model, found.args_name, found.description) == (Args, "args", "Say the month.")
    assert find_job("nobody") is None
    assert callable(jobs.FUNCTIONS["send_email"])


def test_a_parameter_that_nobody_can_fill_is_no_job() -> None:
    def takes_anything(what) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001

    def has_default(context: JobContext, retries: int = 3) -> None: ...

    with pytest.raises(InvalidJob, match="'what' cannot be filled"):
        describe_job("x", takes_anything)
    assert describe_job("x", has_default).context_name == "context"


def test_a_function_that_yields_is_no_job() -> None:
    def in_parts() -> Iterator[int]:
        yield 1

    async def in_parts_on_a_loop() -> AsyncIterator[int]:
        yield 1

    for function in (in_parts, in_parts_on_a_loop):
        with pytest.raises(InvalidJob, match="yields"):
            describe_job("x", function)


def test_a_module_that_ends_the_program_is_one_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop_jobs_script.py").write_text("raise SystemExit(2)")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InvalidJob, match="shop_jobs_script cannot be imported: SystemExit"):
        load_jobs(["shop_jobs_script"])
    point = EntryPoint("script", "shop_jobs_script", ENTRY_POINTS)
    monkeypatch.setattr(loading, "entry_points", lambda group: [point])
    assert "send_email" in load_jobs([])


def test_arguments_lie_over_the_defaults() -> None:
    found = find_job("send_email")
    assert found is not None
    read = found.read_args({"subject": "own", "text": "t"}, {"from": "a@x.org", "to": "b@x.org", "subject": "default"})
    assert (read.model_dump()["subject"], str(read.model_dump()["to"][0])) == ("own", "b@x.org")
    with pytest.raises(ValidationError):
        found.read_args({"subject": "s", "text": "t", "unknown": 1}, {"from": "a@x.org", "to": "b@x.org"})
    with pytest.raises(ValidationError, match="variables"):
        found.read_args({"subject": "{{ gone }}", "text": "t", "from": "a@x.org", "to": "b@x.org", "variables": {}})
    assert found.list_senders is not None
    assert list(found.list_senders(read)) == [("from", "a@x.org")]


def build_row(**columns: object) -> DueRow:
    return DueRow(uuid4(), uuid4(), {"failures": 0, "max_attempts": 3, "backoff_s": 10.0, **columns})


def test_a_failure_comes_again_until_the_attempts_are_used_up_and_a_death_is_none() -> None:
    pauses = [fail(build_row(failures=failures, attempt=9), "X", "m", retry=True).retry_in for failures in range(3)]
    assert pauses == [timedelta(seconds=10), timedelta(seconds=20), None]
    assert fail(build_row(), "X", "m").retry_in is None
    assert find_backoff(3600, 60) == timedelta(days=1)


def test_what_cannot_be_kept_as_a_result_is_a_failure_that_does_not_repeat_the_work() -> None:
    assert succeed(build_row(), {"n": 1}).result == '{"n":1}'
    assert succeed(build_row(), Args(month=3)).result == '{"month":3}'
    assert succeed(build_row(), None).result is None
    for returned, kind in (
        (object(), "InvalidResult"),
        (10**400, "InvalidResult"),
        ("x" * RESULT_LIMIT, "ResultTooLarge"),
    ):
        ending = succeed(build_row(), returned)
        assert (ending.state, ending.retry_in) == (OccurrenceState.FAILED, None)
        assert kind in (ending.error or "")
    assert len(fail(build_row(), "X", "m" * 10_000).error or "") < 3000


def test_an_exception_whose_message_cannot_be_read_or_written_is_a_failure_all_the_same() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert "cannot be read" in (fail(build_row(), "Mute", say(Mute())).error or "")
    assert fail(build_row(), "X", "half \ud83d").error == '{"class":"X","message":"half ?"}'
