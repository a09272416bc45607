"""What is made from code and checked in is what the code makes."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local import openapi_page
from shared import problems_page
from shared.events import asyncapi
from shared.events.schemas import MODELS
from shared.generated_pages import DOCS, keep_page
from shared.topics import Topics

REFERENCE = re.compile(r'"\$ref": "([^"]+)"')
UNDOCUMENTED = {"/healthz", "/readyz", "/metrics"}


def find_reference(document: Any, reference: str) -> Any:
    """What a reference points to. Raises KeyError."""
    file, _, pointer = reference.partition("#")
    found = json.loads((DOCS / file).read_text()) if file else document
    for part in pointer.split("/")[1:]:
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


@pytest.mark.parametrize("page", [asyncapi, openapi_page, problems_page], ids=lambda page: page.PAGE.name)
def test_the_page_is_that_of_the_code(page: Any) -> None:
    assert page.PAGE.read_text() == page.render(), "make docs writes it"


@pytest.mark.parametrize(("name", "read"), [("openapi.json", json.loads), ("asyncapi.yaml", yaml.safe_load)])
def test_every_reference_leads_somewhere(name: str, read: Callable[[str], Any]) -> None:
    document = read((DOCS / name).read_text())
    references = set(REFERENCE.findall(json.dumps(document)))
    assert len(references) > 10
    for reference in references:
        assert find_reference(document, reference), reference


def test_every_topic_and_event_is_in_the_asyncapi_document() -> None:
    document = asyncapi.build_document()
    assert {channel["address"] for channel in document["channels"].values()} == set(Topics().all())
    told = [name for channel in document["channels"].values() for name in channel["messages"]]
    assert sorted(told) == sorted(MODELS) == sorted(document["components"]["messages"])
    in_operations = [each["$ref"] for operation in document["operations"].values() for each in operation["messages"]]
    assert len(in_operations) == len(MODELS)


def list_operations() -> list[tuple[str, dict[str, Any]]]:
    paths = json.loads(openapi_page.PAGE.read_text())["paths"]
    return [
        (f"{method.upper()} {path}", operation)
        for path, operations in paths.items()
        for method, operation in operations.items()
    ]


@pytest.mark.parametrize(
    ("name", "operation"), list_operations(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_operation_says_what_it_does_and_how_it_fails(name: str, operation: dict[str, Any]) -> None:
    assert operation["summary"] and operation["tags"]
    assert operation["description"]
    failures = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
    needs_key = operation.get("security") != []
    assert failures.keys() >= ({"401", "403", "503"} if needs_key else {"403", "503"})
    for answer in failures.values():
        [(media, content)] = answer["content"].items()
        enveloped = content["schema"]["$ref"].endswith("/FailureEnvelope")
        assert enveloped == (media == "application/json")
        assert media in ("application/json", "application/problem+json")
        assert not enveloped or "/api/tasks." in name


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for _, operation in list_operations()]
    assert len(ids) == len(set(ids))


def test_an_outdated_page_is_told_of_written_and_a_wrong_argument_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    assert keep_page(page, lambda: "new", ["--check"]) == 1
    assert not page.exists()
    assert keep_page(page, lambda: "new", []) == 0
    assert page.read_text() == "new"
    assert keep_page(page, lambda: "new", ["--check"]) == 0
    assert keep_page(page, lambda: "new", ["--chekc"]) == 2
    assert "usage" in capsys.readouterr().err
