"""JSON Schemas of the events, generated from the models: `python -m shared.events.schemas [--check]`.

They describe what a publisher may write and what a consumer must expect to read (absent means the default). The
models stay the authority: a few rules they know (addresses, forbidden header names, sizes) a schema cannot say.
"""

import sys
from pathlib import Path
from typing import Any

import orjson
from pydantic.json_schema import GenerateJsonSchema

from shared.events.bulk import BulkRequested
from shared.events.requested import CancellationRequested, EmailRequested
from shared.events.results import EmailFailed, EmailRescheduled, EmailSent
from shared.events.ticks import BatchFinished, MailingFinished, ScheduleTick
from shared.events.wire import EventType, WireModel

DIRECTORY = Path(__file__).parents[2] / "docs" / "schemas"
MODELS: dict[EventType, type[WireModel]] = {
    EventType.REQUESTED: EmailRequested,
    EventType.BULK_REQUESTED: BulkRequested,
    EventType.CANCELLATION_REQUESTED: CancellationRequested,
    EventType.RESCHEDULED: EmailRescheduled,
    EventType.SENT: EmailSent,
    EventType.FAILED: EmailFailed,
    EventType.TICK: ScheduleTick,
    EventType.BATCH_FINISHED: BatchFinished,
    EventType.MAILING_FINISHED: MailingFinished,
}


def _one_of_fields(*names: str) -> dict[str, Any]:
    return {"anyOf": [{"required": [name]} for name in names]}


_RULES: dict[EventType, dict[str, Any]] = {
    EventType.REQUESTED: {"allOf": [_one_of_fields("to", "cc", "bcc"), _one_of_fields("text", "html")]},
    EventType.BULK_REQUESTED: _one_of_fields("text", "html"),
}


class _Generator(GenerateJsonSchema):
    """Without titles: they only repeat the fields' names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def build_schema(event_type: EventType) -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of one event's value."""
    generated = MODELS[event_type].model_json_schema(by_alias=True, schema_generator=_Generator)
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": f"urn:milena:schema:{event_type.value}",
        **generated,
        "title": event_type.value,
        **_RULES.get(event_type, {}),
    }


def render_schemas() -> dict[str, bytes]:
    """File name → content, as checked in."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return {f"{each.value}.json": orjson.dumps(build_schema(each), option=options) for each in MODELS}


def find_outdated(directory: Path = DIRECTORY) -> list[str]:
    """Names of files that differ from the models, are missing, or describe no event."""
    wanted = render_schemas()
    present = {path.name: path.read_bytes() for path in directory.glob("*.json")}
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def write_schemas(directory: Path = DIRECTORY) -> list[str]:
    """Bring the files up to date; returns the names of those that changed."""
    outdated = find_outdated(directory)
    wanted = render_schemas()
    directory.mkdir(parents=True, exist_ok=True)
    for name in outdated:
        if name in wanted:
            (directory / name).write_bytes(wanted[name])
        else:
            (directory / name).unlink()
    return outdated


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` only say which are outdated. Returns the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m shared.events.schemas [--check]", file=sys.stderr)
        return 2
    outdated = find_outdated() if arguments else write_schemas()
    for name in outdated:
        print(f"{'outdated' if arguments else 'written'}: docs/schemas/{name}")
    return 1 if arguments and outdated else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
