"""The content of a bulk event as a form: written once, filled in for each recipient (R2). Pure.

All that recipients share of the message is written with a mark wherever something differs. Only what is certain to
come to the same bytes is filled in: plain text with names in it (placeholders.py), values of printable ASCII, no line
that could grow too long, no attachment. Everything else goes the way of a single mail.
"""

from collections.abc import Mapping
from types import EllipsisType
from typing import Any, NamedTuple

from services.sender.headers import LINE_MAX, encode_addresses, encode_text
from services.sender.message import (
    HTML,
    PLAIN,
    BuiltMessage,
    Identity,
    Memo,
    format_date,
    head_part,
    join_head,
    join_more_headers,
    join_part,
    join_texts,
    needs_utf8,
    stuff_dots,
    write_link,
)
from shared.events import EmailRequested
from shared.placeholders import Placeholders, take_apart

_MARK = "\x00"  # nothing that is sent as text has one
_MARKED = _MARK.encode()


class _FormPart(NamedTuple):
    """A body with its headers, marked. `room`: characters that all values may have together."""

    written: bytes
    placeholders: Placeholders
    is_html: bool
    room: int

    def find(self, variables: Mapping[str, Any]) -> list[str] | None:
        """The values for the marks; None where the long way is to be gone."""
        values = self.placeholders.find(variables, is_html=self.is_html)
        if not values:
            return values
        together = "".join(values)
        fits = len(together) <= self.room and together.isascii() and together.isprintable()
        return values if fits else None


class Form(NamedTuple):
    """`literals` lie around the header lines Subject, To and those of the link to unsubscribe (`has_link`), date,
    Message-ID, then boundaries and values in order.

    `has_dots`: one of the message's lines may begin with a dot.
    """

    literals: list[str]
    subject: Placeholders
    text: _FormPart | None
    html: _FormPart | None
    has_link: bool
    has_dots: bool

    def fill(self, mail: EmailRequested, identity: Identity) -> bytes | None:
        """One recipient's message; None where his values want the long way, or cannot be rendered at all."""
        url = mail.unsubscribe_url
        if (url is not None) is not self.has_link:
            return None
        variables = mail.own_variables or {}
        words = self.subject.find(variables, is_html=False)
        text = [] if self.text is None else self.text.find(variables)
        html = [] if self.html is None else self.html.find(variables)
        if words is None or text is None or html is None or not mail.to[0].address.isascii():
            return None
        subject = self.subject.join(words)
        if not subject.isprintable():
            return None
        boundary = () if self.text is None or self.html is None else (identity.stem,)
        pieces = [""] * (2 * len(self.literals) - 1)
        pieces[::2] = self.literals
        pieces[1::2] = (
            encode_text("Subject", subject).decode("ascii"),
            encode_addresses("To", mail.to).decode("ascii"),
            *(() if url is None else (write_link(url),)),
            format_date(identity.date),
            identity.message_id,
            *boundary * 2,
            *text,
            *boundary,
            *html,
            *boundary,
        )
        octets = "".join(pieces).encode("ascii")  # formatting the same takes three times as long
        return stuff_dots(octets) if self.has_dots else octets


class FormMemo(Memo):
    """With what the mails of one bulk event have in common their form: None where their content cannot be taken apart,
    `...` before anybody has tried."""

    form: Form | EllipsisType | None = ...


def fill_in(mail: EmailRequested, identity: Identity, memo: FormMemo) -> BuiltMessage | None:
    """The message of one mail of a bulk event; None where it goes the long way."""
    if mail.variables is None:  # no template at all; the memo has its parts
        return None
    if memo.form is ...:
        memo.form = _make_form(mail)
    if memo.form is None or "self" in (mail.variables or ()):
        return None
    content = memo.form.fill(mail, identity)
    return None if content is None else BuiltMessage(content, needs_utf8=False)


def _make_form(mail: EmailRequested) -> Form | None:
    subject = take_apart(mail.subject)
    text = None if mail.text is None else _make_part(PLAIN, mail.text)
    html = None if mail.html is None else _make_part(HTML, mail.html)
    if subject is None or (text is None) != (mail.text is None) or (html is None) != (mail.html is None):
        return None
    if mail.attachments or mail.cc or mail.bcc or needs_utf8(mail.model_copy(update={"to": []})):
        return None
    parts = [part.written for part in (text, html) if part is not None]
    if len(parts) == 1 and parts[0].endswith(_MARKED):  # whether its last line has an end depends on the value
        return None
    more = join_more_headers(mail)
    has_link = mail.unsubscribe_url is not None
    lines = [encode_addresses("From", [mail.from_]), *[_MARKED] * (3 if has_link else 2), *([more] if more else [])]
    body = join_texts(text and text.written, html and html.written, _MARK)
    has_dots = b"\n." in more + body or any(b"\n" + _MARKED in part for part in parts)
    written = join_head(lines, _MARK, _MARK) + body
    return Form(written.decode("ascii").split(_MARK), subject, text, html, has_link, has_dots)


def _make_part(media_type: bytes, source: str) -> _FormPart | None:
    placeholders = take_apart(source)
    if placeholders is None:
        return None
    is_html = media_type is HTML
    if not placeholders.names:
        return _FormPart(join_part(media_type, placeholders.literals[0]), placeholders, is_html, 0)
    literals = [literal.replace("\r\n", "\n") for literal in placeholders.literals]
    whole = "".join(literals)
    room = LINE_MAX - max(map(len, whole.split("\n")))
    if not whole.isascii() or "\r" in whole or _MARK in whole or room < 0:
        return None
    written = _MARK.join(literals).replace("\n", "\r\n").encode("ascii")
    return _FormPart(head_part(media_type, b"7bit") + written, placeholders, is_html, room)
