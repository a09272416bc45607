"""A batch is uploaded once, and followed to its end."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from milena import BatchRefused
from tests.support.milena_api import FakeApi, problem
from tests.unit.test_client_sending import Run, run_async, run_sync

UPLOADED = {"id": "b1", "state": "running", "accepted": 2, "invalid": 1, "problems": [{"number": 3, "problem": {}}]}


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    act: Run = request.param
    return act


def show(state: str, percent: float) -> httpx.Response:
    return httpx.Response(200, json={"id": "b1", "state": state, "percent": percent, "counts": {"sent": 1}})


def test_an_upload_is_lines_behind_what_they_share(run: Run) -> None:
    api = FakeApi(httpx.ConnectError("lost"), httpx.Response(202, json=UPLOADED))
    mails = [{"to": "ann@example.org", "variables": {"name": "Ann"}}, {"to": "böb@example.org"}]
    upload: Callable[[Any], Any] = lambda client: client.upload(  # noqa: E731
        mails, content={"from_": "a@example.com", "subject": "s", "text": "t"}, name="Spring", all_or_nothing=True
    )
    batch = run(api, upload)
    assert (batch.id, batch.counts, len(batch.problems)) == ("b1", {"accepted": 2, "invalid": 1}, 1)
    first, again = api.requests
    assert first.headers["idempotency-key"] == again.headers["idempotency-key"]
    assert first.content == again.content
    assert [json.loads(line) for line in first.content.splitlines()] == [
        {"content": {"subject": "s", "text": "t", "from": "a@example.com"}},
        *mails,
    ]
    assert dict(first.url.params) == {"name": "Spring", "all_or_nothing": "true"}


def test_a_batch_is_waited_for_until_every_mail_has_its_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi(show("running", 10.0), show("running", 99.9), show("finished", 100.0)).pass_time(monkeypatch)
    batch = run(api, lambda client: client.wait_batch("b1"))
    assert (batch.is_over, batch.state, len(api.requests)) == (True, "finished", 3)
    late = FakeApi(show("paused", 10.0)).pass_time(monkeypatch)
    assert not run(late, lambda client: client.wait_batch("b1", timeout=3)).is_over


def test_a_batch_is_changed_and_a_refusal_says_why(run: Run) -> None:
    api = FakeApi(show("paused", 10.0), problem(422, "batch-refused", results=[], batch_id="b2"))
    assert run(api, lambda client: client.change_batch("b1", "pause")).state == "paused"
    assert api.requests[0].url.path == "/v1/batches/b1/pause"
    with pytest.raises(BatchRefused):
        run(api, lambda client: client.upload([{}]))
