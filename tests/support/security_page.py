"""docs/security.md: which scope each operation asks for, as the APIs themselves say when a key lacks it.

`python -m tests.support.security_page` writes the table, with `--check` it only says whether it is outdated.
"""

import asyncio
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import httpx

from tests.support.endpoints import Keyring, Operation, build_apis, list_operations

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- operations: begin -->", "<!-- operations: end -->"


def read_scope(answer: httpx.Response) -> str:
    """The scope that a key lacks, out of the answer that says so."""
    return str(answer.json().get("scope", "")) if answer.status_code == 403 else ""


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


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` only say whether it is outdated. Returns the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m tests.support.security_page [--check]", file=sys.stderr)
        return 2
    page = PAGE.read_text()
    wanted = render_page(page, asyncio.run(ask_scopes()))
    if page == wanted:
        return 0
    if arguments:
        print("outdated: docs/security.md (make docs)")
        return 1
    PAGE.write_text(wanted)
    print("written: docs/security.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
