"""Every type of problem has its page, and no API answers with one that has none."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict

from shared.bodies import parse_model
from shared.problem_types import PROBLEM_TYPES, link_type
from shared.problems import Problem, setup_problems
from shared.problems_page import list_routes


class Wanted(BaseModel):
    """What may be asked for."""

    model_config = ConfigDict(extra="forbid")

    id: int
    more: dict[str, int] = {}


ROOT = Path(__file__).parents[2]
MADE_BY = {"Problem": 1, "RetryRefused": 0, "Refusal": 0}  # which argument is the slug


def find_answered() -> Iterator[tuple[str, int | None, str]]:
    """(slug, status where it is told, place) of every problem that the code makes with its words."""
    for folder in ("services", "shared", "deploy"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in MADE_BY:
                    continue
                words = [each.value if isinstance(each, ast.Constant) else None for each in node.args]
                slug = words[place] if (place := MADE_BY[node.func.id]) < len(words) else None  # type: ignore[attr-defined]
                if isinstance(slug, str):
                    status = words[0] if isinstance(words[0], int) else None
                    yield slug, status, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_every_problem_that_is_answered_is_listed_with_its_status() -> None:
    answered = list(find_answered())
    assert len(answered) > 25
    unlisted = [
        each
        for each in answered
        if each[0] not in PROBLEM_TYPES or (each[1] and each[1] not in PROBLEM_TYPES[each[0]].statuses)
    ]
    assert unlisted == [], "name them in shared/problem_types.py"


def test_every_listed_problem_is_answered_somewhere() -> None:
    by_the_framework = {"malformed-request", "method-not-allowed", "internal-error"}
    assert PROBLEM_TYPES.keys() - {slug for slug, _, _ in find_answered()} <= by_the_framework


@pytest.mark.parametrize("slug", PROBLEM_TYPES)
async def test_a_problems_type_leads_to_its_page(slug: str) -> None:
    app = FastAPI()
    setup_problems(app)
    app.router.routes.extend(list_routes())

    @app.get("/fail")
    async def fail() -> None:
        raise Problem(PROBLEM_TYPES[slug].statuses[0], slug, "Just so.")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        problem = (await client.get("/fail")).json()
        assert problem["title"] == PROBLEM_TYPES[slug].title
        page = await client.get(problem["type"])
        everything = (await client.get("/problems/")).text
    assert page.status_code == 200
    assert f"<code>{slug}</code>" in page.text
    assert link_type(slug) in everything


async def test_an_unknown_type_has_no_page() -> None:
    app = FastAPI()
    setup_problems(app)
    app.router.routes.extend(list_routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get("/problems/bad-luck")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert "no such type of problem" in answer.json()["detail"]


async def test_what_the_framework_refuses_is_told_in_words_that_help() -> None:
    app = FastAPI()
    setup_problems(app)

    @app.get("/things")
    async def find(wanted: Annotated[Wanted, Query()]) -> None: ...

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        nowhere, unsuited, misfit = (
            await client.get("/thing"),
            await client.put("/things"),
            await client.get("/things?x="),
        )
    assert nowhere.json()["detail"] == "There is nothing at this address; /docs lists what there is."
    assert unsuited.json()["detail"] == "PUT is not for this address; it takes GET."
    assert misfit.json()["errors"] == [
        {"detail": "is needed", "pointer": "/query/id"},
        {"detail": "unknown field", "pointer": "/query/x"},
    ]


def test_an_object_is_asked_for_by_its_name_in_json() -> None:
    with pytest.raises(Problem) as refused:
        parse_model({"id": 1, "more": "none"}, Wanted)
    assert refused.value.errors == [{"detail": "must be a JSON object", "pointer": "/more"}]
