"""Examples for the API's documentation of mailings."""

from typing import Any

_CONTENT: dict[str, Any] = {
    "from": "Shop <news@example.com>",
    "subject": "Spring is here, {{ name|default('friend') }}",
    "text": "Hello {{ name }},\n\nyour {{ plan }} plan is 20 % off until Sunday.\n",
    "html": "<p>Hello {{ name }},</p><p>your {{ plan }} plan is 20 % off until Sunday.</p>",
}
NEW_MAILING = {
    "contacts": {
        "summary": "To contacts by tag and attribute, in their own office hours",
        "value": {
            "name": "Spring letter",
            "content": _CONTENT,
            "audience": {"tags": {"any": ["customer"], "none": ["complained"]}, "attributes": {"plan": "pro"}},
            "start_at": "2030-03-20T06:00:00Z",
            "finish_at": "2030-03-24T06:00:00Z",
            "hours": {"from": "09:00", "to": "18:00", "timezone": "Europe/Berlin"},
            "rate": 200,
        },
    },
    "list": {
        "summary": "To an uploaded list",
        "value": {
            "name": "Winners",
            "content": {**_CONTENT, "subject": "You have won {{ prize }}"},
            "audience": {"list": "01a2b3c4-d5e6-7f80-9a1b-2c3d4e5f6071"},
        },
    },
}
CHANGES = {
    "subject": {"summary": "Another subject", "value": {"content": {"subject": "It is spring, {{ name }}"}}},
    "slower": {"summary": "Slower, and without an end", "value": {"rate": 50, "finish_at": None}},
}
CHOICE: dict[str, Any] = {
    "first": {"summary": "For the first of the audience", "value": {}},
    "contact": {"summary": "For one of the audience", "value": {"address": "ann@example.org"}},
    "sample": {
        "summary": "For somebody who need not exist",
        "value": {"recipient": {"address": "ann@example.org", "name": "Ann", "variables": {"plan": "pro"}}},
    },
}
TEST = {"me": {"summary": "To me, as the first of the audience would get it", "value": {"to": ["me@example.com"]}}}
RETRY: dict[str, Any] = {
    "plain": {"summary": "Until the mailing's end", "value": {}},
    "later": {"summary": "Until another end", "value": {"finish_at": "2030-03-26T06:00:00Z"}},
}
EVENTS = """\
retry: 2000

id: 6449f1d2b3c40
event: mailing.progress
data: {"id":"…","state":"running","counts":{"pending":52000,"success":47900,…},"progress":{"percent":47.9,…},…}

id: 6449f1d3c4d50-
event: mailing.finished
data: {"id":"…","state":"finished","counts":{"pending":0,"success":99880,"fail":120,…},"progress":{"percent":100.0},…}

"""
