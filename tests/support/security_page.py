"""docs/security.md: which scope each operation asks for, as the APIs themselves say when a key lacks it.

`python -m tests.support.security_page` writes the table, with `--check` it only says whether it is outdated.
"""

import asyncio
import re
import sys
from collections.abc import Iterable

import httpx

from shared.generated_pages import DOCS, keep_page
from tests.support.endpoints import Keyring, Operation, build_apis, list_operations, read_problem

PAGE = DOCS / "security.md"
BEGIN, END = "<!-- operations: begin -->", "<!-- operations: end -->"


def read_scope(answer: httpx.Response) -> str:
    """The scope that a key lacks, out of the answer that says so."""
    return str(read_problem(answer).get("scope", "")) if answer.status_code == 403 else ""


async def ask_scopes() -> list[tuple[Operation, str]]:
    """Each operation with its scope, empty where it asks for none."""
    keyring = Keyring()
    with keyring.in_force():
        operations = list_operations(build_apis())
        powerless = keyring.mint()
        return [(each, read_scope(await each.call(powerless))) for each in operations if not each.is_public]


def render_page(page: str, scopes: Iterable[tuple[Operation, str]]) -> str:
    """The page with the table as it should be."""
    lines = ["| request | | scope | service |", "|---|---|---|---|"]
    lines += [f"| `{each}` | {each.summary} | `{scope}` | {each.service} |" for each, scope in scopes]
    table = "\n".join(lines)
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table}\n{END}", page, flags=re.DOTALL)


def render() -> str:
    """The page as the APIs answer now."""
    return render_page(PAGE.read_text(), asyncio.run(ask_scopes()))


if __name__ == "__main__":
    sys.exit(keep_page(PAGE, render, sys.argv[1:]))
