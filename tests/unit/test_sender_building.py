"""Mails of a bulk event share what they have in common, and are the same bytes as if each had come alone (R12)."""

from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.sender.building import build_mail
from services.sender.form import FormMemo
from services.sender.ledger import LedgerEntry
from shared.events import BulkRequested, EmailRequested
from shared.templates import TemplateError

AT = datetime(2026, 1, 31, 9, tzinfo=UTC)
FILE = {"filename": "ü.txt", "content": "aGVsbG8="}
PICTURE = {"filename": "logo.png", "content_type": "image/png", "content": "AAAA", "content_id": "logo"}

LINKED: list[dict[str, Any]] = [
    {"to": "u1@y.org", "variables": {"name": "Ann"}, "unsubscribe_url": "https://x.org/u/1?a=b&c=d"},
    {"to": "u2@y.org", "variables": {"name": "Bob", "unsubscribe_url": "theirs"}, "unsubscribe_url": "https://x.org/u"},
    {"to": "u3@y.org", "variables": {"name": "Cyd", "unsubscribe_url": "none"}},
]


def make_bulk(**fields: Any) -> BulkRequested:
    content = {
        "bulk_id": str(uuid4()),
        "from": "Grüße <shop@x.org>",
        "subject": "Hello {{ name }}",
        "text": "Dear {{ name }}",
        "html": "<p>{{ name }}</p>",
        "mails": [{"to": f"u{n}@y.org", "variables": {"name": name}} for n, name in enumerate(["Ann", "Bób", "."])],
    }
    return BulkRequested.model_validate(content | fields)


def build_alone(mail: EmailRequested) -> bytes:
    """As the due loop builds it: from what was stored."""
    again = EmailRequested.model_validate_json(mail.to_json())
    return build_mail(again, make_entry(again)).content


def make_entry(mail: EmailRequested) -> LedgerEntry:
    assert mail.id
    return LedgerEntry(mail.id, "default", "d", f"<{mail.id}@x.org>", 1, AT, AT + timedelta(hours=1))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"text": "the same for all", "html": None},
        {"text": "the same for all", "html": "<p>the same</p>"},
        {"text": "{{ name }}", "html": "<p>the same</p>", "reply_to": ["r@x.org"], "headers": {"X-A": "ä", "X-B": "b"}},
        {"attachments": [FILE, PICTURE, FILE | {"filename": "2.txt"}]},
        {"attachments": [PICTURE, FILE], "html": None},
        {"mails": LINKED},
        {"mails": LINKED, "headers": {"List-Unsubscribe": "<mailto:leave@x.org>", "X-A": "a"}},
        {"mails": LINKED, "text": "{{ unsubscribe_url|upper }}", "headers": {"list-unsubscribe": "<https://x.org/>"}},
        {"mails": LINKED[::-1], "text": "Dear {{ name }}", "html": "<p>the same</p>"},
    ],
)
def test_the_bytes_are_those_of_the_mail_alone(fields: dict[str, Any]) -> None:
    mails = make_bulk(**fields).list_mails()
    memo = FormMemo()
    built = [build_mail(mail, make_entry(mail), memo).content for mail in mails]
    assert built == [build_alone(mail) for mail in mails]
    assert len(set(built)) == len(mails)


def test_each_mail_says_how_its_own_recipient_unsubscribes() -> None:
    links = '<a href="{{ unsubscribe_url }}">Leave</a>'
    common = {"List-Unsubscribe": "<mailto:leave@x.org>", "X-A": "a"}
    memo = FormMemo()
    built = [
        message_from_bytes(build_mail(mail, make_entry(mail), memo).content)
        for mail in make_bulk(mails=LINKED, html=links, text=None, headers=common).list_mails()
    ]
    assert memo.form is not None
    fields = [(each.get_all("List-Unsubscribe"), each.get_all("List-Unsubscribe-Post")) for each in built]
    assert fields == [
        (["<https://x.org/u/1?a=b&c=d>"], ["List-Unsubscribe=One-Click"]),
        (["<https://x.org/u>"], ["List-Unsubscribe=One-Click"]),
        (["<mailto:leave@x.org>"], None),
    ]
    assert {each["X-A"] for each in built} == {"a"}
    shown = [unescape(str(each.get_payload())).strip() for each in built]
    assert shown == [f'<a href="{url}">Leave</a>' for url in ("https://x.org/u/1?a=b&c=d", "https://x.org/u", "none")]


@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://x.org/>\r\nBcc: a@b.c",
            "https://x.org/\n",
            "https://x.org/ü",
            "https://x.org/a b",
            "https://x.org/<>",
        ),
        *("mailto:a@x.org", "javascript:alert(1)", "https://", "https://x.org/" + "a" * 900),
    ],
)
def test_no_link_breaks_out_of_its_header(url: str) -> None:
    with pytest.raises(ValidationError, match="unsubscribe_url"):
        make_bulk(mails=[{"to": "u@y.org", "unsubscribe_url": url}])


def test_an_attachment_is_encoded_once_for_all() -> None:
    mails = make_bulk(attachments=[FILE]).list_mails()
    memo = FormMemo()
    build_mail(mails[0], make_entry(mails[0]), memo)
    encoded = memo[0]
    build_mail(mails[1], make_entry(mails[1]), memo)
    assert memo[0] is encoded
    assert b"aGVsbG8=" in encoded


LINES = st.lists(
    st.sampled_from(["Dear {{ a }},", "{{ b }}", ".", "é", "\n", "\r\n", "\r", "x" * 970, "&"]), max_size=8
)
SOURCES = LINES.map("".join)
TEXTS = st.one_of(st.sampled_from(["Ann", ".", "A & B", "ü", "two\nlines", "x" * 40, ""]), st.text(max_size=8))
NUMBERS = st.integers(-(2**63), 2**63 - 1)


@given(SOURCES, SOURCES, SOURCES, st.lists(st.tuples(TEXTS, TEXTS | NUMBERS), min_size=1, max_size=3))
def test_a_form_filled_in_is_the_same_bytes_as_the_mail_alone(
    subject: str, text: str, html: str, values: list[tuple[str, str | int]]
) -> None:
    mails = [{"to": f"u{n}@y.org", "variables": {"a": a, "b": b}} for n, (a, b) in enumerate(values) if "\x00" not in a]
    fields = {"subject": subject.replace("\r", "").replace("\n", ""), "text": text, "html": html}
    memo = FormMemo()
    for mail in make_bulk(**fields, mails=mails or [{"to": "u@y.org", "variables": {"a": "", "b": 1}}]).list_mails():
        try:
            expected = build_alone(mail)
        except TemplateError:
            with pytest.raises(TemplateError):
                build_mail(mail, make_entry(mail), memo)
        else:
            assert build_mail(mail, make_entry(mail), memo).content == expected


def test_a_content_of_names_is_a_form_and_one_with_logic_is_not() -> None:
    for text, is_form in (("Dear {{ name }}", True), ("{% if name %}x{% endif %}", False)):
        memo = FormMemo()
        for mail in make_bulk(text=text).list_mails():
            build_mail(mail, make_entry(mail), memo)
        assert (memo.form is not None) is is_form
