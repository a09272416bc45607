"""The checked-in JSON Schemas are those of the models, and both accept the same hand-written events."""

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from shared.events.schemas import DIRECTORY, MODELS, build_schema, find_outdated, main, write_schemas
from shared.events.wire import EventType
from tests.contract.json_schema import accepts

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
MAIL: dict[str, Any] = {"from": "no-reply@x.org", "to": "ann@y.org", "subject": "Hello", "text": "Hi"}
SENT: dict[str, Any] = {
    "id": ID,
    "attempt": 1,
    "recipients": ["ann@y.org"],
    "message_id": f"<{ID}@x.org>",
    "relay": "mx.y.org:25",
    "response": "250 2.0.0 Ok: queued as 4F1",
    "sent_at": "2026-01-31T09:00:00Z",
    "outstanding": 0,
}
BULK: dict[str, Any] = {"bulk_id": ID, "from": "a@x.org", "subject": "s", "text": "t", "mails": [{"to": "b@y.org"}]}
MOVED = {"id": ID, "send_at": "2026-01-31T09:00:00Z", "rescheduled_at": "2026-01-30T09:00:00.125Z"}
TICK: dict[str, Any] = {
    "occurrence_id": ID,
    "task_id": 1,
    "name": "nightly",
    "job_name": "report",
    "due_at": "2026-01-31T09:00:00Z",
}
_ENDS = ("sent", "partially_sent", "failed", "expired", "cancelled")
FINISHED: dict[str, Any] = {
    "batch_id": ID,
    "state": "finished",
    "counts": {"accepted": 2, "invalid": 0, **dict.fromkeys(_ENDS, 0)},
    **dict.fromkeys(("created_at", "started_at", "finished_at"), "2026-01-31T09:00:00Z"),
}
MAILING_FINISHED: dict[str, Any] = {
    "mailing_id": ID,
    "name": "Spring",
    "state": "cancelled",
    "counts": dict.fromkeys(("recipients", "sent", "failed", "expired", "cancelled", "skipped"), 0),
    **dict.fromkeys(("created_at", "finished_at"), "2026-01-31T09:00:00Z"),
}

VALID: list[tuple[EventType, dict[str, Any]]] = [
    (EventType.REQUESTED, MAIL),
    (EventType.REQUESTED, {**MAIL, "to": ["Ann <ann@y.org>"], "html": "<p>Hi</p>", "id": ID}),
    (EventType.REQUESTED, {**MAIL, "callback": {"url": "https://x/?a=1", "on": ["sent"]}, "unheard_of": 1}),
    (
        EventType.REQUESTED,
        {**MAIL, "cc": [{"address": "bob@y.org", "name": "Bob"}], "metadata": {"order": 7}, "tags": ["receipt"]},
    ),
    (EventType.REQUESTED, {**MAIL, "attachments": [{"filename": "a.txt", "content": "aGk="}]}),
    (EventType.REQUESTED, {**MAIL, "send_at": "2026-01-31T09:00:00+01:00", "priority": "bulk"}),
    (EventType.CANCELLATION_REQUESTED, {"id": ID, "cancel": True}),
    (EventType.RESCHEDULED, MOVED),
    (EventType.BULK_REQUESTED, BULK),
    (EventType.SENT, SENT),
    (EventType.SENT, {**SENT, "complete": True, "outcomes": [{"address": "ann@y.org", "state": "sent", "attempt": 1}]}),
    (EventType.FAILED, {"id": ID, "reason": "rejected", "final": True, "recipients": [{"address": "ann@y.org"}]}),
    (
        EventType.FAILED,
        {"reason": "invalid_request", "final": True, "source": {"topic": "t", "partition": 0, "offset": 1}},
    ),
    (EventType.TICK, TICK),
    (EventType.BATCH_FINISHED, FINISHED),
    (EventType.MAILING_FINISHED, MAILING_FINISHED),
]
INVALID: list[tuple[EventType, dict[str, Any]]] = [
    (EventType.REQUESTED, {key: value for key, value in MAIL.items() if key != "from"}),
    (EventType.REQUESTED, {key: value for key, value in MAIL.items() if key != "to"}),
    (EventType.REQUESTED, {key: value for key, value in MAIL.items() if key != "text"}),
    (EventType.REQUESTED, {**MAIL, "id": "7"}),
    (EventType.REQUESTED, {**MAIL, "to": [5]}),
    (EventType.REQUESTED, {**MAIL, "from": {"address": "a@x.org", "title": "Dr."}}),
    (EventType.REQUESTED, {**MAIL, "priority": "urgent"}),
    (EventType.REQUESTED, {**MAIL, "callback": "ftp://x"}),
    (EventType.REQUESTED, {**MAIL, "callback": {"url": "https://x", "on": ["opened"]}}),
    (EventType.REQUESTED, {**MAIL, "tags": ["two words"]}),
    (EventType.REQUESTED, {**MAIL, "send_at": "tomorrow"}),
    (EventType.CANCELLATION_REQUESTED, {"id": ID, "cancel": False}),
    (EventType.RESCHEDULED, {**MOVED, "send_at": None}),
    (EventType.BULK_REQUESTED, {**BULK, "mails": []}),
    (EventType.SENT, {**SENT, "recipients": "ann@y.org"}),
    (EventType.FAILED, {"id": ID, "reason": "bad_luck", "final": True}),
    (EventType.TICK, {**TICK, "due_at": 5}),
    (EventType.BATCH_FINISHED, {**FINISHED, "state": "running"}),
    (EventType.MAILING_FINISHED, {**MAILING_FINISHED, "state": "paused"}),
    (EventType.MAILING_FINISHED, {key: value for key, value in MAILING_FINISHED.items() if key != "name"}),
]


def test_the_checked_in_schemas_are_those_of_the_models() -> None:
    assert find_outdated() == [], "run `make docs`"


@pytest.mark.parametrize(("event_type", "data"), VALID)
def test_model_and_schema_accept(event_type: EventType, data: dict[str, Any]) -> None:
    MODELS[event_type].model_validate(data)
    assert accepts(_read(event_type), data)


@pytest.mark.parametrize(("event_type", "data"), INVALID)
def test_model_and_schema_refuse(event_type: EventType, data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MODELS[event_type].model_validate(data)
    assert not accepts(_read(event_type), data)


@pytest.mark.parametrize(("event_type", "data"), VALID)
def test_what_we_write_ourselves_is_valid_under_the_schema(event_type: EventType, data: dict[str, Any]) -> None:
    written = MODELS[event_type].model_validate(data).to_json()
    assert accepts(build_schema(event_type), orjson.loads(written))


def test_the_examples_in_the_documentation_are_valid() -> None:
    blocks = re.findall(r"```json\n(.*?)```", (DIRECTORY.parent / "events.md").read_text(), re.DOTALL)
    found = [orjson.loads(block) for block in blocks]
    marks = {
        "reason": EventType.FAILED,
        "relay": EventType.SENT,
        "mails": EventType.BULK_REQUESTED,
        "occurrence_id": EventType.TICK,
    }
    types = [next((marks[mark] for mark in marks if mark in data), EventType.REQUESTED) for data in found]

    assert set(types) == {EventType.REQUESTED, *marks.values()}
    for event_type, data in zip(types, found, strict=True):
        MODELS[event_type].model_validate(data)
        assert accepts(_read(event_type), data)


def test_every_event_with_a_model_has_an_example_here() -> None:
    assert {event_type for event_type, _ in VALID} == set(MODELS)


def test_outdated_files_are_named_and_mended(tmp_path: Path) -> None:
    names = write_schemas(tmp_path)
    assert len(names) == len(MODELS)
    (tmp_path / "email.sent.json").write_text("{}")
    (tmp_path / "email.opened.json").write_text("{}")

    assert find_outdated(tmp_path) == ["email.opened.json", "email.sent.json"]
    assert write_schemas(tmp_path) == ["email.opened.json", "email.sent.json"]
    assert find_outdated(tmp_path) == []


def test_the_command_checks_and_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    assert main(["--chekc"]) == 2
    assert "usage" in capsys.readouterr().err


def _read(event_type: EventType) -> dict[str, Any]:
    schema: dict[str, Any] = orjson.loads((DIRECTORY / f"{event_type.value}.json").read_bytes())
    return schema
