"""The pages about the types of problems: docs/problems.md, and what a problem's `type` leads to on every API.

`python -m shared.problems_page [--check]` writes the first.
"""

import re
import sys
from collections.abc import Iterable
from html import escape

from fastapi import Request
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

from shared.generated_pages import DOCS, keep_page
from shared.problem_types import PAGES, PROBLEM_TYPES, ProblemType, link_type

PAGE = DOCS / "problems.md"
_INTRODUCTION = """# Problems

Every error of every API is a problem document ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)),
`application/problem+json`:

```json
{
  "type": "/problems/invalid-content",
  "title": "Invalid content",
  "status": 422,
  "detail": "Some fields are not acceptable; see errors.",
  "request_id": "8f14e45fceea167a5a36dedd4bea2543",
  "errors": [{"detail": "not an email address: there is no @", "pointer": "/to"}]
}
```

`type` names the kind of problem and leads to its section on this page, on the API's own origin. `detail` is about this
one request. Programs decide by `type` and `status`; words may change. 429 and 503 carry `Retry-After`.
This page is made from `shared/problem_types.py` (`make docs`).
"""
_STYLE = (
    ":root { color-scheme: light dark } "
    "body { max-width: 40rem; margin: 4rem auto; padding: 0 1.5rem; font: 16px/1.6 system-ui, sans-serif }"
)
_CODE = re.compile(r"`([^`]+)`")


def render() -> str:
    """docs/problems.md as it should be."""
    return "\n".join([_INTRODUCTION, *(_write_section(each) for each in PROBLEM_TYPES.values())])


def list_routes() -> list[Route]:
    """`GET /problems/` and `GET /problems/{slug}`, for every application."""
    return [
        Route(PAGES, _show_all, methods=["GET"], include_in_schema=False),
        Route(f"{PAGES}{{slug}}", _show_one, methods=["GET"], include_in_schema=False),
    ]


async def _show_all(_request: Request) -> HTMLResponse:
    return HTMLResponse(_write_page("Problems", PROBLEM_TYPES.values()))


async def _show_one(request: Request) -> HTMLResponse:
    found = PROBLEM_TYPES.get(request.path_params["slug"])
    if found is None:
        raise HTTPException(404, f"There is no such type of problem; {PAGES} lists all.")
    return HTMLResponse(_write_page(found.title, [found]))


def _write_section(each: ProblemType) -> str:
    statuses = " or ".join(str(status) for status in each.statuses)
    return f"## {each.slug}\n\n**{each.title}** ({statuses}). {each.meaning}\n\n*What to do:* {each.remedy}\n"


def _write_page(title: str, types: Iterable[ProblemType]) -> str:
    body = "\n".join(_write_article(each) for each in types)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)} · Milena</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>\n'
        f'{body}\n<p><a href="{PAGES}">All problems</a> · <a href="/docs">API documentation</a></p></html>\n'
    )


def _write_article(each: ProblemType) -> str:
    statuses = " or ".join(str(status) for status in each.statuses)
    link = f'<a href="{link_type(each.slug)}">{escape(each.title)}</a>'
    words = [_mark_code(each.meaning), f"<b>What to do:</b> {_mark_code(each.remedy)}"]
    return f"<h2>{link}</h2><p>HTTP {statuses}, <code>{each.slug}</code></p>" + "".join(f"<p>{w}</p>" for w in words)


def _mark_code(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))


if __name__ == "__main__":
    sys.exit(keep_page(PAGE, render, sys.argv[1:]))
