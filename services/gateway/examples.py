"""Examples of request bodies, for the API's documentation."""

from typing import Any

_SIMPLE: dict[str, Any] = {
    "from": "no-reply@example.com",
    "to": "ann@example.org,bob@example.net",
    "subject": "Your order",
    "text_content": "Thank you for your order.",
    "html_content": "Thank you for your <strong>order</strong>.",
    "token": "mk_…",
    "callback": "https://shop.example.com/mail/callback/?checkout-id=12",
}
_FULL: dict[str, Any] = {
    "from": "Shop <no-reply@example.com>",
    "to": ["Ann <ann@example.org>", {"address": "bob@example.net", "name": "Bob"}],
    "subject": "Your order",
    "html": "Thank you for your <strong>order</strong>.",
    "text": "Thank you for your order.",
    "tags": ["order"],
    "metadata": {"order_id": 12},
}
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

SIMPLE_EXAMPLES = {"simple": {"summary": "Two recipients and a callback", "value": _SIMPLE}}
FORM_EXAMPLES = {"form": {"summary": "The same as a form", "value": _SIMPLE}}
FULL_EXAMPLES = {
    "plain": {"summary": "A mail", "value": _FULL},
    "template": {
        "summary": "A template, sent tomorrow",
        "value": {
            "from": "no-reply@example.com",
            "to": ["ann@example.org"],
            "subject": "Hello {{ name }}",
            "html": "<p>Hello {{ name }}, your {{ item }} is ready.</p>",
            "variables": {"name": "Ann", "item": "coat"},
            "send_at": "2030-01-31T09:00:00Z",
            "callback": {"url": "https://shop.example.com/hook", "on": ["sent", "failed"]},
        },
    },
    "stored template": {
        "summary": "A stored template",
        "value": {
            "from": "no-reply@example.com",
            "to": ["ann@example.org"],
            "template": {"name": "welcome"},
            "variables": {"name": "Ann"},
        },
    },
    "attachment": {
        "summary": "With an attachment",
        "value": {
            **_FULL,
            "attachments": [
                {"filename": "hello.txt", "content_type": "text/plain", "content": "SGVsbG8="},
            ],
        },
    },
    "inline": {
        "summary": "With an image in the text",
        "value": {
            **_FULL,
            "html": '<p>Thank you. <img src="cid:logo" alt="Shop"></p>',
            "attachments": [
                {"filename": "logo.png", "content_type": "image/png", "content_id": "logo", "content": _PIXEL},
            ],
        },
    },
}

BATCH_EXAMPLES = {
    "two": {
        "summary": "Two mails, of which one has a mistake: the other is accepted",
        "value": {"emails": [_FULL, {**_FULL, "to": ["ann"]}]},
    },
    "all-or-nothing": {
        "summary": "Two mails, or none",
        "value": {"emails": [_FULL, {**_FULL, "to": ["cleo@example.org"]}], "all_or_nothing": True},
    },
}

BULK_EXAMPLES = {
    "two": {
        "summary": "An invitation for two",
        "value": {
            "from": "Shop <no-reply@example.com>",
            "subject": "{{ name }}, you are invited",
            "text": "Dear {{ name }}, your code is {{ code }}. This was sent to {{ address }}.",
            "priority": "bulk",
            "tags": ["invitation"],
            "recipients": [
                {"to": "ann@example.org", "name": "Ann", "variables": {"code": "A1"}},
                {"to": "Bob <bob@example.net>", "variables": {"code": "B2"}, "metadata": {"customer": 12}},
            ],
        },
    },
}
