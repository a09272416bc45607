"""Files in docs/ that are made from code: written by `make docs`, and never out of date because a test looks.

One command for each (`python -m <module> [--check]`), one way to run it.
"""

import sys
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def keep_page(path: Path, render: Callable[[], str], arguments: list[str]) -> int:
    """Write the page, or with `--check` only say whether it is outdated. Returns the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: [--check]", file=sys.stderr)
        return 2
    wanted = render()
    if path.exists() and path.read_text() == wanted:
        return 0
    if arguments:
        print(f"outdated: docs/{path.name} (make docs)")
        return 1
    path.write_text(wanted)
    print(f"written: docs/{path.name}")
    return 0
