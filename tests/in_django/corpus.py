"""Messages as Django applications write them; each is sent, and compared with what Django itself would have sent."""

import tempfile
from collections.abc import Callable
from email.message import MIMEPart
from email.mime.base import MIMEBase
from email.mime.image import MIMEImage
from pathlib import Path
from typing import Any

import django
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.utils.functional import lazystr

FROM, TO = "no-reply@example.com", ["Ann <ann@example.org>"]
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452")
CASES: dict[str, Callable[[], Any]] = {}


def case(build: Callable[[], Any]) -> Callable[[], Any]:
    CASES[build.__name__] = build
    return build


def plain(**options: Any) -> Any:
    return EmailMessage("Subject", "Content\n", FROM, TO, **options)


@case
def ascii_only() -> Any:
    return plain()


@case
def unicode_everywhere() -> Any:
    return EmailMessage("Chère maman 💌", "Je t'aime très fort\n", "Zoë <no-reply@example.com>", ["Ü <u@x.org>"])


@case
def lazy_strings() -> Any:
    return EmailMessage(lazystr("Überraschung"), lazystr("Bitte\n"), FROM, [lazystr("ann@example.org")])


@case
def an_empty_body() -> Any:
    return EmailMessage("Subject", None, FROM, TO)


@case
def several_of_each_kind_of_recipient() -> Any:
    to = ["a@example.org", '"Doe, Jane" <jane@example.org>', ""]
    return EmailMessage(
        "S", "B\n", FROM, to, cc=["c@example.org", "d@example.org"], bcc=["e@example.org"], reply_to=["Help <h@x.org>"]
    )


@case
def only_blind_copies() -> Any:
    return EmailMessage("S", "B\n", FROM, bcc=["e@example.org", "f@example.org"])


@case
def an_html_body() -> Any:
    message = plain()
    message.body, message.content_subtype = "<p>Grüße</p>\n", "html"
    return message


@case
def alternatives() -> Any:
    message = EmailMultiAlternatives("S", "Text ü\n", FROM, TO)
    message.attach_alternative("<p>HTML ü</p>\n", "text/html")
    return message


@case
def an_alternative_without_body() -> Any:
    message = EmailMultiAlternatives("S", "", FROM, TO, alternatives=[("<p>HTML</p>\n", "text/html")])
    message.attach("a.txt", "text\n", "text/plain")
    return message


@case
def headers_of_the_callers() -> Any:
    return plain(headers={"X-Order": "42", "List-Unsubscribe": "<https://example.com/u?a=1>", "X-Name": "Zoë"})


@case
def a_from_header_beside_the_envelope() -> Any:
    message = plain(headers={"From": "Shop <shop@example.com>"})
    message.from_email = "bounces@example.com"
    return message


@case
def a_to_header_that_names_fewer() -> Any:
    return EmailMessage("S", "B\n", FROM, ["a@example.org", "b@example.org"], headers={"To": "All <a@example.org>"})


@case
def a_reply_to_header() -> Any:
    return plain(headers={"Reply-To": "Help <help@example.com>"})


@case
def message_id_and_date_of_the_callers() -> Any:
    return plain(headers={"Message-ID": "<1@example.com>", "Date": "Fri, 09 Nov 2001 01:08:47 -0000"})


@case
def long_lines_and_dots() -> Any:
    return EmailMessage("Long " * 40 + "end", f".\nFrom here\n{'ü' * 2000}\n{'x' * 2000}\n", FROM, TO)


@case
def files() -> Any:
    message = plain()
    message.attach("text.txt", "Grüße\n", "text/plain")
    message.attach("utf8.txt", "Grüße\n".encode(), "text/plain")
    message.attach("latin1.txt", "Grüße\n".encode("latin-1"), "text/plain")
    message.attach("une pièce jointe.pdf", b"%PDF\0", "application/pdf")
    message.attach("guess.png", PNG)
    message.attach("unknown.zzz", b"\0\1")
    message.attach(None, b"\0\2", "application/x-thing")
    message.attach("calendar.ics", "BEGIN:VCALENDAR\n", "text/calendar")
    return message


@case
def a_file_of_the_disk() -> Any:
    message = plain()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.csv"
        path.write_text("a,b\n1,2\n")
        message.attach_file(path)
    return message


@case
def attachments_of_the_constructor() -> Any:
    return plain(attachments=[("a.txt", "x\n", "text/plain"), ("b.bin", b"\0")])


@case
def an_inline_image() -> Any:
    """In the form that the installed Django wants: MIMEBase, from 6.0 on MIMEPart."""
    message = EmailMultiAlternatives("S", "Text\n", FROM, TO)
    message.attach_alternative('<img src="cid:logo@example.com">\n', "text/html")
    part: Any
    if django.VERSION < (6, 0):
        part = MIMEImage(PNG, "png")
        part.add_header("Content-Disposition", "inline", filename="logo.png")
    else:
        part = MIMEPart()
        part.set_content(PNG, maintype="image", subtype="png", disposition="inline", filename="logo.png")
    part["Content-ID"] = "<logo@example.com>"
    message.attach(part)
    return message


@case
def a_part_in_another_charset() -> Any:
    if django.VERSION >= (6, 0):
        part: Any = MIMEPart()
        part.set_content("Grüße\n", charset="iso-8859-1", disposition="attachment", filename="a.txt")
    else:
        part = MIMEBase("text", "plain", charset="iso-8859-1")
        part.set_payload("Grüße\n".encode("latin-1"), "iso-8859-1")
        part.add_header("Content-Disposition", "attachment", filename="a.txt")
    message = plain()
    message.attach(part)
    return message


@case
def a_message_in_a_message() -> Any:
    message = plain()
    message.attach("first.eml", EmailMessage("Inner ü", "Inner body\n", FROM, TO), "message/rfc822")
    return message


@case
def an_internationalised_domain() -> Any:
    return EmailMessage("S", "B\n", FROM, ["to@äöü.example.com", "Jörg <j@bücher.example>"])
