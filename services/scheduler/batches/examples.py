"""Examples of uploads, for the API's documentation."""

from typing import Any

import orjson

_CONTENT: dict[str, Any] = {
    "from": "Shop <no-reply@example.com>",
    "subject": "Hello {{ name }}",
    "text": "Hello {{ name }}, spring is here.",
    "html": "<p>Hello {{ name }}, spring is here.</p>",
}
_MAILS: list[dict[str, Any]] = [
    {**_CONTENT, "to": ["ann@example.org"], "variables": {"name": "Ann"}},
    {**_CONTENT, "to": ["bob@example.net"], "variables": {"name": "Bob"}},
]


def _write_lines(items: list[dict[str, Any]]) -> str:
    return b"".join(orjson.dumps(item) + b"\n" for item in items).decode()


ARRAY_EXAMPLES = {"letter": {"summary": "One letter to two people: what they share is stored once", "value": _MAILS}}
LINE_EXAMPLES = {
    "letter": {"summary": "The same, a mail a line", "value": _write_lines(_MAILS)},
    "content": {
        "summary": "The same, with what they share said once, in the first line",
        "value": _write_lines([{"content": _CONTENT}, *({n: mail[n] for n in ("to", "variables")} for mail in _MAILS)]),
    },
}
EVENTS_EXAMPLE = """\
retry: 2000

id: 6449f1d2b3c40
event: batch.progress
data: {"id":"…","state":"running","counts":{"accepted":10000,"pending":5200,"sent":4600,…},"percent":46.0,…}

id: 6449f1d3c4d50-
event: batch.finished
data: {"id":"…","state":"finished","counts":{"accepted":10000,"sent":9990,"failed":10,…},"percent":100.0,…}

"""
