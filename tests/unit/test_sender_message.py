"""What the builder puts on the wire is read back by the standard library's parser, character for character."""

import base64
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import default
from email.utils import getaddresses
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.sender.message import BuiltMessage, build_message, identify, name_message
from shared.addresses import Mailbox, check_name
from shared.events import Attachment, EmailRequested
from shared.templates import RenderedContent

ID = UUID("018f5b1e-0000-7000-8000-00000000abcd")
AT = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)
modest = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
header_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\x00"), max_size=150)
names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=120).map(check_name)
locals_ = st.from_regex(r"[a-z0-9][a-z0-9.+_=-]{0,20}[a-z0-9]", fullmatch=True).filter(lambda each: ".." not in each)
boxes = st.builds(lambda local, name: Mailbox(f"{local}@example.org", name), locals_, names)


def request(
    subject: str = "Hello", text: str | None = "Hi", html: str | None = "<b>Hi</b>", **fields: Any
) -> EmailRequested:
    whole: dict[str, Any] = {
        "id": ID,
        "from_": Mailbox("no-reply@example.com"),
        "to": [Mailbox("ann@example.org")],
    } | fields
    return EmailRequested(subject=subject, text=text, html=html, **whole)


def build(mail: EmailRequested) -> BuiltMessage:
    return build_message(
        mail, RenderedContent(mail.subject, mail.text, mail.html), identify(ID, name_message(ID, mail.from_), AT)
    )


def unstuff(content: bytes) -> bytes:
    """What a relay makes of the content (RFC 5321 §4.5.2)."""
    lines = content.split(b"\r\n")
    assert b"." not in lines  # would end the mail early
    return b"\r\n".join(line.removeprefix(b".") for line in lines)


def read(built: BuiltMessage) -> EmailMessage:
    """Check what every message must be on the wire, and parse it."""
    content = built.content
    assert content.endswith(b"\r\n")
    assert b"\r" not in content.replace(b"\r\n", b"")
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert b"\x00" not in content
    assert built.needs_utf8 or content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 998
    parsed = message_from_bytes(unstuff(content), policy=default)
    assert isinstance(parsed, EmailMessage)
    assert not [part.defects for part in parsed.walk() if part.defects]
    return parsed


def normal(body: str) -> str:
    """Line ends as every mail program shows them; whether the last line has one cannot be told."""
    return body.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")


def body_of(parsed: EmailMessage, kind: str) -> str:
    part = parsed.get_body((kind,))
    assert part is not None
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return normal(content.decode())


def mailboxes_of(parsed: EmailMessage, name: str) -> list[tuple[str, str]]:
    """Read by the older of the library's parsers: the newer one puts spaces between the encoded words of a name."""
    (raw,) = [value for key, value in parsed.raw_items() if key == name]
    unfolded = raw.encode("utf-8", "surrogateescape").decode().replace("\r\n", "").replace("\n", "")
    return [(str(make_header(decode_header(phrase))), address) for phrase, address in getaddresses([unfolded])]


# --- text and html ---


def test_a_plain_mail_has_the_headers_and_parts_it_needs_and_no_other() -> None:
    parsed = read(build(request(subject="Grüße", to=[Mailbox("ann@example.org", "Ann Ämter")])))
    assert parsed["Subject"] == "Grüße"
    assert [part.get_content_type() for part in parsed.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert parsed["Message-ID"] == f"<{ID}@example.com>"
    assert parsed["Date"].datetime == AT
    assert parsed["MIME-Version"] == "1.0"
    assert parsed.keys() == ["From", "Subject", "To", "Date", "Message-ID", "MIME-Version", "Content-Type"]


@modest
@given(header_text)
@example("=?utf-8?q?not_encoded?=")
@example("Re: =?x")
@example(" leading and trailing ")
@example("two  spaces   three")
@example("a" * 2000)
@example("word " * 300 + "end")
@example("ö" * 700)
@example("tab\there")
@example("\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\xa0\u3000")
@example("😀" * 100)
@example("x" * 69)
@example("a \u3000 b")
@example("")
@example(".")
@example("a" * 66 + " .hidden")
def test_any_subject_comes_back(subject: str) -> None:
    assert read(build(request(subject=subject)))["Subject"] == subject


@modest
@given(text, text)
@example(".\r\n..\r\n.x\n.", "\r\r\n\n.")
@example("", "")
@example("x" * 998, "y" * 5000)
@example("a\x00b", "ü\x00")
@example("trailing  \n \n\t\n", "--=_018f5b1e\n")
@example("From here\nFrom there", "\x0b\x0c\x1c\x85\u2028")
@example("a" * 990, "b" * 991)
def test_any_text_and_html_come_back(plain: str, html: str) -> None:
    parsed = read(build(request(text=plain, html=html)))
    assert body_of(parsed, "plain") == normal(plain)
    assert body_of(parsed, "html") == normal(html)


@modest
@given(text, st.sampled_from(["plain", "html"]))
@example(".", "plain")
@example("", "html")
@example("ü\n.\n", "plain")
def test_one_part_alone_needs_no_multipart(body: str, kind: str) -> None:
    mail = request(text=body if kind == "plain" else None, html=body if kind == "html" else None)
    parsed = read(build(mail))
    assert parsed.get_content_type() == f"text/{kind}"
    assert body_of(parsed, kind) == normal(body)


@pytest.mark.parametrize("body", ["lone \ud800 surrogate", "\udcff"])
def test_a_lone_surrogate_becomes_a_question_mark(body: str) -> None:
    content = RenderedContent(body, body, body)
    identity = identify(ID, name_message(ID, Mailbox("a@example.com")), AT)
    with_file = request(attachments=[Attachment(filename="a", content="")])
    for mail in (request(), with_file):
        parsed = read(build_message(mail, content, identity))
        assert parsed["Subject"] == body.encode("utf-8", "replace").decode()
        assert "?" in body_of(parsed, "plain")


# --- addresses ---


@modest
@given(boxes, st.lists(boxes, min_size=1, max_size=8), st.lists(boxes, max_size=3), st.lists(boxes, max_size=2))
@example(Mailbox("a@example.org", 'Lee, "Ann" \\ (x)'), [Mailbox("b@example.org", "=?utf-8?q?x?=")], [], [])
@example(Mailbox("a@example.org", "ö" * 300), [Mailbox("b@example.org", "n" * 800)], [], [])
@example(Mailbox("a@example.org", "A  B   C"), [Mailbox("b@example.org", '"')], [], [])
@example(Mailbox("a@example.org", "\\"), [Mailbox("b@example.org", "a@b.c"), Mailbox("c@example.org", "Ü, x")], [], [])
@example(Mailbox("a@example.org", "\u3000x\xa0y"), [Mailbox("b@example.org", "w " * 200 + "w")], [], [])
def test_any_display_names_come_back(
    sender: Mailbox, to: list[Mailbox], cc: list[Mailbox], reply_to: list[Mailbox]
) -> None:
    mail = request(from_=sender, to=to, cc=cc, reply_to=reply_to)
    parsed = read(build(mail))
    expected = {"From": [mail.from_], "To": mail.to, "Cc": mail.cc, "Reply-To": mail.reply_to}
    for name, wanted in expected.items():
        if wanted:
            assert mailboxes_of(parsed, name) == [(box.name, box.address) for box in wanted]
        else:
            assert name not in parsed


def test_a_thousand_recipients_are_all_named() -> None:
    to = [Mailbox(f"user{n}@example.org", f"Üser {n}" if n % 3 else "") for n in range(1000)]
    parsed = read(build(request(to=to)))
    assert mailboxes_of(parsed, "To") == [(box.name, box.address) for box in to]


def test_bcc_appears_nowhere() -> None:
    built = build(request(bcc=[Mailbox("secret@example.org", "Hidden Person")]))
    assert b"secret" not in built.content
    assert b"Hidden" not in built.content
    assert "Bcc" not in read(built)


def test_an_international_domain_travels_in_ascii() -> None:
    mail = EmailRequested.model_validate(
        {"id": ID, "from": "a@example.com", "to": "ann@bücher.example", "subject": "x", "text": "x"}
    )
    built = build(mail)
    assert not built.needs_utf8
    assert mailboxes_of(read(built), "To") == [("", "ann@xn--bcher-kva.example")]


@pytest.mark.parametrize("field", ["from_", "to", "cc", "reply_to"])
def test_an_address_beyond_ascii_needs_smtputf8(field: str) -> None:
    box = Mailbox("jörg@example.org", "Jörg Ö")
    fields: dict[str, Any] = {field: box if field == "from_" else [box]}
    built = build(request(**fields))
    assert built.needs_utf8
    name = {"from_": "From", "to": "To", "cc": "Cc", "reply_to": "Reply-To"}[field]
    assert mailboxes_of(read(built), name) == [("Jörg Ö", "jörg@example.org")]


@pytest.mark.parametrize("fields", [{"bcc": [Mailbox("jörg@example.org")]}, {"envelope_from": "jörg@example.org"}])
def test_so_does_one_that_is_only_on_the_envelope(fields: dict[str, Any]) -> None:
    built = build(request(**fields))
    assert built.needs_utf8
    assert built.content.isascii()


def test_a_quoted_local_part_stays_quoted() -> None:
    mail = request(to=['"a b"@example.org'])
    assert mailboxes_of(read(build(mail)), "To") == [("", '"a b"@example.org')]


# --- custom headers ---


@modest
@given(st.from_regex(r"X-[A-Za-z0-9-]{1,70}", fullmatch=True), header_text)
@example("X-" + "n" * 74, "ü" * 200)
@example("X-Long", "https://example.org/" + "p" * 900)
def test_any_custom_header_comes_back(name: str, value: str) -> None:
    assert read(build(request(headers={name: value})))[name] == value


def test_a_long_structured_header_is_folded_and_never_encoded() -> None:
    links = f"<https://example.org/u/{'t' * 80}>, <mailto:leave@example.org?subject={'s' * 60}>"
    built = build(request(headers={"List-Unsubscribe": links}))
    assert read(built)["List-Unsubscribe"] == links
    assert b"=?" not in built.content


# --- attachments ---

files = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\x00"), min_size=1, max_size=100)


@modest
@given(files, st.binary(max_size=300))
@example('quo"te\\back;semi=x.txt', b"\n.\n")
@example("ü" * 255, b"")
@example("a" * 255, b"\r\n.\r\n")
@example(" spaces at both ends ", b"x")
@example("=?utf-8?q?x?=.txt", b"x")
@example("100% sure'.txt", b"x")
@example("tab\there\x0b\x85\u2028", b"x")
def test_any_file_comes_back_under_its_name(filename: str, content: bytes) -> None:
    file = Attachment(filename=filename, content=base64.b64encode(content).decode(), content_type="application/pdf")
    parsed = read(build(request(attachments=[file])))
    assert parsed.get_content_type() == "multipart/mixed"
    (found,) = parsed.iter_attachments()
    assert found["Content-Disposition"].params["filename"] == filename
    assert found.get_content_disposition() == "attachment"
    assert found.get_payload(decode=True) == content
    assert body_of(parsed, "plain") == "Hi"


def test_inline_files_belong_to_the_html_and_others_to_the_whole() -> None:
    logo = Attachment(filename="l.png", content="AAAA", content_type="image/png", content_id="logo@x")
    file = Attachment(filename="r.pdf", content="AAAA", content_type="application/pdf")
    parsed = read(build(request(html='<img src="cid:logo@x">', attachments=[file, logo])))
    shape = [part.get_content_type() for part in parsed.walk()]
    assert shape == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "application/pdf",
    ]
    image = next(part for part in parsed.walk() if part.get_content_type() == "image/png")
    assert image["Content-ID"] == "<logo@x>"
    assert image.get_content_disposition() == "inline"
    assert len({part.get_boundary() for part in parsed.walk() if part.is_multipart()}) == 3


def test_without_html_an_inline_file_is_an_ordinary_one() -> None:
    logo = Attachment(filename="l.png", content="AAAA", content_type="image/png", content_id="logo")
    parsed = read(build(request(html=None, attachments=[logo])))
    assert [part.get_content_type() for part in parsed.walk()] == ["multipart/mixed", "text/plain", "image/png"]


@pytest.mark.parametrize("kind", ["message/rfc822", "multipart/mixed", "text/plain", "Message/Partial", "x/y+z"])
def test_a_file_of_any_media_type_keeps_its_bytes(kind: str) -> None:
    content = "grüße\r\n.\r\n\x00".encode()
    file = Attachment(filename="f", content=base64.b64encode(content).decode(), content_type=kind)
    (found,) = read(build(request(attachments=[file]))).iter_attachments()
    assert found.get_payload(decode=True) == content


@modest
@given(text, text, header_text)
@example(".\n", "x" * 3000, "ü")
def test_bodies_beside_a_file_come_back_too(plain: str, html: str, subject: str) -> None:
    file = Attachment(filename="a.bin", content="AAAA")
    parsed = read(build(request(subject=subject, text=plain, html=html, attachments=[file])))
    assert parsed["Subject"] == subject
    assert body_of(parsed, "plain") == normal(plain)
    assert body_of(parsed, "html") == normal(html)
    assert parsed.get_all("MIME-Version") == ["1.0"]


# --- identity ---


@pytest.mark.parametrize("fields", [{}, {"attachments": [Attachment(filename="ü.txt", content="AAAA")]}])
def test_a_resend_is_byte_identical(fields: dict[str, Any]) -> None:
    mail = request(subject="Grüße", headers={"X-A": "b"}, **fields)
    again = EmailRequested.model_validate_json(mail.to_json())
    assert build(mail).content == build(again).content


def test_the_date_is_written_in_utc_whatever_zone_it_comes_in() -> None:
    at = AT.astimezone(timezone(timedelta(hours=5)))
    mail = request()
    content = RenderedContent("s", "t", None)
    built = [
        build_message(mail, content, identify(ID, name_message(ID, mail.from_), each)).content for each in (AT, at)
    ]
    assert built[0] == built[1]
    assert b"Date: Sat, 31 Jan 2026 09:00:00 +0000" in built[0]


def test_the_message_id_takes_the_domain_of_from_or_the_operators() -> None:
    sender = Mailbox("a@Example.COM")
    assert name_message(ID, sender) == f"<{ID}@example.com>"
    assert name_message(ID, sender, "mail.example.net") == f"<{ID}@mail.example.net>"
