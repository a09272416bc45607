"""The content of a bulk event as a form: encoded once, filled in for each recipient (R2). Pure.

Only what is certain to come to the same bytes is filled in: plain text with names in it (placeholders.py), values of
printable ASCII, and no line that could grow too long. Everything else goes the way of a single mail.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.sender.headers import LINE_MAX
from services.sender.message import HTML, PLAIN, Memo, Parts, head_part, join_part
from shared.events import EmailRequested
from shared.placeholders import Placeholders, take_apart


@dataclass(frozen=True, slots=True)
class _FormPart:
    """A body: `placeholders` with CRLF lines and the part's headers before the first literal.

    `room`: characters that all values together may have. `constant`: the whole part where there is no name in it.
    """

    placeholders: Placeholders
    is_html: bool
    room: int
    constant: bytes | None = None

    def fill(self, variables: Mapping[str, Any]) -> bytes | None:
        if self.constant is not None:
            return self.constant
        values = self.placeholders.find(variables, is_html=self.is_html)
        if values is None:
            return None
        together = "".join(values)
        if len(together) > self.room or not (together.isascii() and together.isprintable()):
            return None
        return self.placeholders.join(values).encode("ascii")


@dataclass(frozen=True, slots=True)
class Form:
    """A content of which every field could be taken apart."""

    subject: Placeholders
    text: _FormPart | None
    html: _FormPart | None

    def fill(self, variables: Mapping[str, Any]) -> Parts | None:
        """One recipient's bodies; None where his values want the long way, or cannot be rendered at all."""
        values = self.subject.find(variables, is_html=False)
        if values is None:
            return None
        subject = self.subject.join(values)
        if not subject.isprintable():
            return None
        text = html = None
        if self.text is not None and (text := self.text.fill(variables)) is None:
            return None
        if self.html is not None and (html := self.html.fill(variables)) is None:
            return None
        return Parts(subject, text, html)


def fill_in(mail: EmailRequested, memo: Memo) -> Parts | None:
    """The bodies of one mail of a bulk event; None where it goes the long way."""
    if memo.form is ...:
        memo.form = _make_form(mail)
    if memo.form is None or mail.variables is None or "self" in mail.variables:
        return None
    return memo.form.fill(mail.variables)


def _make_form(mail: EmailRequested) -> Form | None:
    subject = take_apart(mail.subject)
    text = None if mail.text is None else _make_part(PLAIN, mail.text)
    html = None if mail.html is None else _make_part(HTML, mail.html)
    if subject is None or (text is None) != (mail.text is None) or (html is None) != (mail.html is None):
        return None
    return Form(subject, text, html)


def _make_part(media_type: bytes, source: str) -> _FormPart | None:
    placeholders = take_apart(source)
    if placeholders is None:
        return None
    if not placeholders.names:
        return _FormPart(placeholders, media_type is HTML, 0, join_part(media_type, placeholders.literals[0]))
    literals = [literal.replace("\r\n", "\n") for literal in placeholders.literals]
    whole = "".join(literals)
    room = LINE_MAX - max(map(len, whole.split("\n")))
    if not whole.isascii() or "\r" in whole or "\x00" in whole or room < 0:
        return None
    literals = [literal.replace("\n", "\r\n") for literal in literals]
    literals[0] = head_part(media_type, b"7bit").decode("ascii") + literals[0]
    return _FormPart(Placeholders(tuple(literals), placeholders.names), media_type is HTML, room)
