"""The client says what was meant, once, and again where that makes sense."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

import milena
from milena import ApiError, AsyncHandle, Attachment, Handle
from tests.support.milena_api import KEY, FakeApi, accepted, problem, status

MAIL: Any = {"to": "ann@example.org", "subject": "Hello", "text": "Hi"}


def run_sync(api: FakeApi, act: Callable[[Any], Any]) -> Any:
    with api.client() as client:
        return act(client)


def run_async(api: FakeApi, act: Callable[[Any], Any]) -> Any:
    async def run() -> Any:
        async with api.async_client() as client:
            return await act(client)

    return asyncio.run(run())


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Callable[[FakeApi, Callable[[Any], Any]], Any]:
    """Both clients keep every promise of this file."""
    act: Callable[[FakeApi, Callable[[Any], Any]], Any] = request.param
    return act


Run = Callable[[FakeApi, Callable[[Any], Any]], Any]


def test_a_mail_becomes_the_json_of_the_api(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plan.pdf").write_bytes(b"%PDF")
    api = FakeApi(accepted("7"))
    handle = run(
        api,
        lambda client: client.send(
            from_="Shop <no-reply@example.com>",
            to=["Ann <ann@example.org>"],
            subject="Grüße",
            html="<p>",
            text=None,
            template="welcome",
            send_at=datetime(2030, 1, 31, 10, tzinfo=timezone(timedelta(hours=1))),
            attachments=[tmp_path / "plan.pdf", Attachment("a.bin", b"\0", content_id="logo")],
        ),
    )
    assert handle.id == "7"
    [request] = api.requests
    assert (request.method, request.url.path) == ("POST", "/v1/emails")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    [body] = api.bodies()
    assert body == {
        "from": "Shop <no-reply@example.com>",
        "to": ["Ann <ann@example.org>"],
        "subject": "Grüße",
        "html": "<p>",
        "template": {"name": "welcome"},
        "send_at": "2030-01-31T09:00:00Z",
        "attachments": [
            {"filename": "plan.pdf", "content_type": "application/pdf", "content": "JVBERg=="},
            {"filename": "a.bin", "content_type": "application/octet-stream", "content": "AA==", "content_id": "logo"},
        ],
    }


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("Grüße".encode(), "text/plain; charset=utf-8"),
        ("Grüße".encode("latin-1"), "text/plain"),
        (b"ascii", "text/plain"),
    ],
)
def test_a_text_says_how_it_is_written_where_that_is_known(content: bytes, kind: str) -> None:
    assert Attachment("a.txt", content).to_json()["content_type"] == kind


def test_a_time_without_zone_is_refused_before_anything_is_sent(run: Run) -> None:
    api = FakeApi(accepted())
    with pytest.raises(ValueError, match="send_at needs a time zone"):
        run(api, lambda client: client.send(**MAIL, send_at=datetime(2030, 1, 1)))
    assert not api.requests


PASSING = {
    "lost": httpx.ConnectError("refused"),
    "timed out": httpx.ReadTimeout("slow"),
    "502": httpx.Response(502, text="<html>"),
    "503": problem(503, "kafka-unavailable", retry_after="1"),
    "503, outcome unknown": problem(503, "outcome-unknown", id="1", outcome="unknown"),
    "504": httpx.Response(504),
    "429": problem(429, "too-many-requests", retry_after="2"),
    "in flight": problem(409, "idempotency-key-in-flight", retry_after="1"),
}


@pytest.mark.parametrize("passing", PASSING.values(), ids=PASSING)
def test_what_passes_is_tried_again_under_the_same_key(
    run: Run, monkeypatch: pytest.MonkeyPatch, passing: httpx.Response | Exception
) -> None:
    api = FakeApi(passing, passing, accepted("7")).pass_time(monkeypatch)
    assert run(api, lambda client: client.send(**MAIL)).id == "7"
    first, second, third = (request.headers["idempotency-key"] for request in api.requests)
    assert first == second == third
    assert len(first.strip('"')) == 36
    assert len(api.clock.pauses) == 2
    if isinstance(passing, httpx.Response) and "retry-after" in passing.headers:
        assert min(api.clock.pauses) >= float(passing.headers["retry-after"])


def test_each_mail_has_a_key_of_its_own_unless_one_is_given(run: Run) -> None:
    api = FakeApi(accepted())
    run(api, lambda client: client.send(**MAIL))
    run(api, lambda client: client.send(**MAIL))
    run(api, lambda client: client.send(**MAIL, idempotency_key='order "12"'))
    keys = [request.headers["idempotency-key"] for request in api.requests]
    assert len(set(keys)) == 3
    assert keys[2] == r'"order \"12\""'


def test_patience_ends(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi(httpx.ConnectError("refused")).pass_time(monkeypatch)
    with pytest.raises(milena.ConnectionFailed, match="refused") as caught:
        run(api, lambda client: client.send(**MAIL))
    assert isinstance(caught.value, ConnectionError)
    assert 20 < sum(api.clock.pauses) <= 30
    assert max(api.clock.pauses) <= 5


@pytest.mark.parametrize(
    "far", ["3600", format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)], ids=["seconds", "date"]
)
def test_a_retry_after_beyond_the_patience_is_an_error_at_once(
    run: Run, monkeypatch: pytest.MonkeyPatch, far: str
) -> None:
    api = FakeApi(problem(429, "too-many-requests", retry_after=far)).pass_time(monkeypatch)
    with pytest.raises(milena.RateLimited):
        run(api, lambda client: client.send(**MAIL))
    assert not api.clock.pauses


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(401, "not-authenticated"), milena.NotAuthenticated),
        (problem(403, "scope-missing"), milena.ScopeMissing),
        (problem(403, "sender-not-allowed"), milena.SenderNotAllowed),
        (problem(413, "too-large", limit=1048576), milena.TooLarge),
        (problem(422, "idempotency-key-reused"), milena.IdempotencyKeyReused),
        (httpx.Response(400, json={"type": "urn:milena:problem:malformed-json"}), ApiError),
        (httpx.Response(500, text="oops"), ApiError),
        (httpx.Response(302, headers={"location": "http://elsewhere.test/"}), ApiError),
    ],
)
def test_what_does_not_pass_is_an_error_of_its_own_type_at_once(
    run: Run, answer: httpx.Response, kind: type[ApiError]
) -> None:
    api = FakeApi(answer)
    with pytest.raises(kind) as caught:
        run(api, lambda client: client.send(**MAIL))
    assert type(caught.value) is kind
    assert len(api.requests) == 1
    assert KEY not in f"{caught.value!r} {caught.value.document}"


def test_an_error_says_which_field_is_meant() -> None:
    errors = [{"detail": "is no address", "pointer": "/to/0"}]
    with pytest.raises(milena.InvalidContent, match=r"it is invalid-content\. to/0 is no address") as caught:
        FakeApi(problem(422, "invalid-content", errors=errors, request_id="r1")).client().send(**MAIL)
    assert (caught.value.slug, caught.value.errors, caught.value.request_id) == ("invalid-content", errors, "r1")


def test_a_batch_gives_each_mail_its_handle_or_its_error(run: Run) -> None:
    refused = {"type": "/problems/invalid-content", "status": 422, "detail": "no"}
    api = FakeApi(httpx.Response(202, json={"results": [{"id": "1", "status": "queued"}, {"problem": refused}]}))
    first, second = run(api, lambda client: client.send_batch([MAIL, {**MAIL, "from_": "x"}]))
    assert isinstance(first, Handle | AsyncHandle)
    assert first.id == "1"
    assert type(second) is milena.InvalidContent
    assert next(api.bodies()) == {"emails": [MAIL, {**MAIL, "from": "x"}]}


def test_a_batch_of_which_nothing_is_accepted_is_still_told_mail_by_mail(run: Run) -> None:
    refused = {"type": "/problems/sender-not-allowed", "status": 403, "detail": "no"}
    api = FakeApi(problem(422, "batch-refused", results=[{"problem": refused}]))
    [only] = run(api, lambda client: client.send_batch([MAIL]))
    assert type(only) is milena.SenderNotAllowed


def test_where_there_are_no_batches_yet_mails_go_one_by_one(run: Run) -> None:
    api = FakeApi(problem(405, "method-not-allowed"), accepted("1"), problem(403, "sender-not-allowed"), accepted("3"))
    first, second, third = run(api, lambda client: client.send_batch([MAIL] * 3, idempotency_key="june"))
    assert (first.id, type(second), third.id) == ("1", milena.SenderNotAllowed, "3")
    assert [each.headers["idempotency-key"] for each in api.requests[1:]] == ['"june.0"', '"june.1"', '"june.2"']


def test_a_large_batch_takes_several_requests_each_under_its_own_key(run: Run) -> None:
    def accept(request: httpx.Request) -> httpx.Response:
        count = request.content.count(b'"subject"')
        return httpx.Response(202, json={"results": [{"id": f"{len(api.requests)}-{n}"} for n in range(count)]})

    api = FakeApi(accept)
    handles = run(api, lambda client: client.send_batch([MAIL] * 2001, idempotency_key="june"))
    assert [handles[0].id, handles[1000].id, handles[2000].id] == ["1-0", "2-0", "3-0"]
    assert [each.headers["idempotency-key"] for each in api.requests] == ['"june"', '"june-1"', '"june-2"']


def test_one_content_for_many_gives_each_recipient_a_handle(run: Run) -> None:
    def accept(request: httpx.Request) -> httpx.Response:
        if len(api.requests) == 2:
            return problem(403, "sender-not-allowed")
        return httpx.Response(202, json={"results": [{"id": f"{n}"} for n in range(request.content.count(b'"to"'))]})

    api = FakeApi(accept)
    recipients = [{"to": f"u{n}@example.org", "variables": {"n": n}} for n in range(1001)]
    content = {"from_": "a@example.com", "subject": "{{ n }}", "text": "t"}
    handles = run(api, lambda client: client.send_bulk(recipients, idempotency_key="june", **content))
    assert (handles[999].id, type(handles[1000])) == ("999", milena.SenderNotAllowed)
    first, second = api.bodies()
    assert (first["from"], len(first["recipients"]), second["recipients"]) == ("a@example.com", 1000, recipients[1000:])
    assert [each.headers["idempotency-key"] for each in api.requests] == ['"june"', '"june-1"']


def test_wait_asks_more_and_more_rarely_until_the_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = status("deferred", complete=False)
    api = FakeApi(problem(404, "email-not-found"), waiting, waiting, waiting, status("sent")).pass_time(monkeypatch)
    found = run(api, lambda client: client.email("1").wait(60))
    assert (found.status, found.complete, found.recipients[0].response) == ("sent", True, "250 Ok")
    assert api.clock.pauses == sorted(api.clock.pauses)
    assert len(api.clock.pauses) == 4


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(status("queued", complete=False), milena.StillOnItsWay), (problem(404, "email-not-found"), milena.NotFound)],
)
def test_wait_ends_with_its_time(
    run: Run, monkeypatch: pytest.MonkeyPatch, answer: httpx.Response, kind: type[Exception]
) -> None:
    api = FakeApi(answer).pass_time(monkeypatch)
    with pytest.raises(kind):
        run(api, lambda client: client.email("1").wait(3))
    assert sum(api.clock.pauses) == pytest.approx(3)


def test_wait_does_not_outwait_an_unknown_outcome(run: Run) -> None:
    assert run(FakeApi(status("unknown", complete=False)), lambda client: client.wait("1")).status == "unknown"


def test_of_a_mail_just_sent_nothing_may_be_known_yet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(client: Any) -> Any:
        handle = await client.send(**MAIL)
        return await handle.status()

    api = FakeApi(accepted("1"), problem(404, "email-not-found"), status("queued", complete=False)).pass_time(
        monkeypatch
    )
    act = (lambda client: client.send(**MAIL).status()) if run is run_sync else both
    assert run(api, act).status == "queued"
    with pytest.raises(milena.NotFound):
        run(FakeApi(problem(404, "email-not-found")), lambda client: client.email("9").status())


def test_a_mail_is_cancelled_and_tried_again_by_its_handle(run: Run) -> None:
    api = FakeApi(problem(409, "already-final", email_status="sent"))
    with pytest.raises(milena.AlreadyFinal):
        run(api, lambda client: client.email("a/b").cancel())
    assert api.requests[0].url.raw_path == b"/v1/emails/a%2Fb/cancel"
    api = FakeApi(httpx.Response(202, json={"id": "2", "status": "queued", "retry_of": "1", "recipients": 1}))
    assert run(api, lambda client: client.email("1").retry(include_unknown=True)).id == "2"
    assert next(api.bodies()) == {"include_unknown": True}


WAITING = {"id": "1", "state": "pending", "send_at": "2030-01-31T10:00:00Z"}


def test_a_mail_that_waits_is_moved_by_its_handle(run: Run) -> None:
    api, ten = (
        FakeApi(httpx.Response(200, json=WAITING)),
        datetime(2030, 1, 31, 11, tzinfo=timezone(timedelta(hours=1))),
    )
    moved = run(api, lambda client: client.email("a/b").reschedule(ten))
    assert (moved.state, moved.send_at) == ("pending", ten)
    assert (api.requests[0].method, api.requests[0].url.raw_path) == ("PATCH", b"/v1/scheduled/a%2Fb")
    assert next(api.bodies()) == {"send_at": "2030-01-31T10:00:00Z"}
    with pytest.raises(milena.Conflict):
        run(FakeApi(problem(409, "not-scheduled", state="released")), lambda client: client.email("1").reschedule(ten))


def test_what_waits_is_listed_page_after_page(run: Run) -> None:
    first = httpx.Response(200, json={"data": [WAITING, {**WAITING, "id": "2"}], "next": "abc"})
    api = FakeApi(first, httpx.Response(200, json={"data": [{**WAITING, "id": "3"}]}))

    async def collect(client: Any) -> Any:
        return [each.id async for each in client.scheduled(state="pending", from_="2030-01-01T00:00:00Z")]

    def act(client: Any) -> Any:
        return [each.id for each in client.scheduled(state="pending", from_="2030-01-01T00:00:00Z")]

    assert run(api, act if run is run_sync else collect) == ["1", "2", "3"]
    asked = [dict(each.url.params) for each in api.requests]
    filters = {"state": "pending", "from": "2030-01-01T00:00:00Z"}
    assert asked == [filters, {**filters, "after": "abc"}]


def test_a_timeline_is_events(run: Run) -> None:
    line = {"id": "e1", "type": "email.sent", "time": "2026-01-31T09:00:00.000Z", "response": "250 Ok"}
    [event] = run(FakeApi(httpx.Response(200, json={"events": [line]})), lambda client: client.email("1").timeline())
    assert (event.id, event.type, event.email_id, event.data["response"]) == ("e1", "email.sent", "1", "250 Ok")
    assert event.time == datetime(2026, 1, 31, 9, tzinfo=UTC)


def test_tasks_are_made_changed_and_listed_page_by_page(run: Run) -> None:
    pages = [{"data": [{"id": 1}], "next": "1"}, {"data": [{"id": 2}], "next": None}]
    api = FakeApi(*(httpx.Response(200, json=page) for page in pages))
    assert run(api, lambda client: client.list_tasks()) == [{"id": 1}, {"id": 2}]
    assert [request.url.raw_path for request in api.requests] == [
        b"/v1/tasks?limit=100",
        b"/v1/tasks?limit=100&after=1",
    ]
    api = FakeApi(httpx.Response(201, json={"id": 3}), httpx.Response(200, json={"id": 3}))
    assert run(api, lambda client: client.create_task(name="n", cron="@daily")) == {"id": 3}
    assert run(api, lambda client: client.update_task(3, end_at=None)) == {"id": 3}
    assert [(request.method, request.url.path) for request in api.requests] == [
        ("POST", "/v1/tasks"),
        ("PATCH", "/v1/tasks/3"),
    ]
    assert list(api.bodies()) == [{"name": "n", "cron": "@daily"}, {"end_at": None}]
    api = FakeApi(httpx.Response(200, json={"data": [{"name": "send_email"}]}))
    assert run(api, lambda client: client.list_jobs()) == [{"name": "send_email"}]
    with pytest.raises(milena.Conflict):
        run(FakeApi(problem(409, "task-name-taken")), lambda client: client.create_task(name="n"))


def test_the_key_is_in_no_representation_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    client = FakeApi(accepted()).client()
    handle = client.send(**MAIL)
    shown = f"{client!r} {handle!r} {client._configuration!r} {caplog.text}"
    assert "mk_" not in shown
    assert "ann@example.org" not in shown


def test_a_batch_is_cut_by_its_weight_and_keeps_the_ids_it_has_when_a_later_part_fails(run: Run) -> None:
    first = {
        "batch_id": "b",
        "accepted": 2,
        "results": [{"id": str(number), "status": "queued"} for number in range(2)],
    }
    refused = httpx.Response(413, json={"type": "/problems/too-large", "detail": "Too large."})
    api = FakeApi(httpx.Response(202, json=first), refused)
    heavy = {**MAIL, "text": "x" * 3_500_000}
    found = run(api, lambda client: client.send_batch([heavy, heavy, heavy]))
    assert [each.id for each in found[:2]] == ["0", "1"]
    assert isinstance(found[2], milena.TooLarge)
