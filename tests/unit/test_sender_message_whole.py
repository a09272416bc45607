"""Whole messages, everything in them at once: both generations of the library's parser read back what went in."""

import base64
import string
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from email.utils import collapse_rfc2231_value, getaddresses
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.sender.message import BuiltMessage, Memo, build_message, identify, name_message
from shared.addresses import InvalidAddress, Mailbox, check_address, check_name
from shared.events import Attachment, EmailRequested
from shared.templates import RenderedContent

ID = UUID("018f5b1e-0000-7000-8000-00000000abcd")
AT = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)
modest = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])

NO_SURROGATES = st.characters(exclude_categories=["Cs"])
# What tends to break builders, among anything at all.
SPICE = st.sampled_from(
    ["\r\n", "\n", "\r", ".", "\n.", "\r\n.\r\n", "\x00", " ", "  ", "\t", "\u2028", "ö", "😀", "\u0301"]
) | st.sampled_from(["=", "=?utf-8?q?x?=", "--=_018f5b1e", "From ", "x" * 1000, "%", '"', "\\", ",", "<"])
bodies = st.lists(SPICE | st.text(NO_SURROGATES, max_size=30), max_size=12).map("".join)
header_texts = bodies.map(lambda text: text.translate({13: None, 10: None, 0: None}))
file_names = header_texts.filter(bool).map(lambda text: text[:200])
names = bodies.map(lambda text: "".join(each for each in text[:150] if each.isprintable() or each in "\u3000\xa0")).map(
    check_name
)
letters = st.characters(categories=["Ll", "Lu", "Lo"], max_codepoint=0xFFFF)


def is_address(text: str) -> bool:
    try:
        check_address(text)
    except InvalidAddress:
        return False
    return True


plain_locals = st.text(string.ascii_letters + string.digits + "._+-=", min_size=1, max_size=30)
locals_ = plain_locals | st.text(letters, min_size=1, max_size=15)
domains = st.sampled_from(
    ["example.org", "bücher.example", "例え.テスト", "xn--bcher-kva.example", "sub.straße.example"]
)
addresses = st.builds("{}@{}".format, locals_, domains).filter(is_address).map(check_address)
boxes = st.builds(Mailbox, addresses, names)
attachments = st.builds(
    lambda name, content, inline: Attachment(
        filename=name,
        content=base64.b64encode(content).decode(),
        content_type="image/png",
        content_id="logo@x" if inline else None,
    ),
    file_names,
    st.binary(max_size=200),
    st.booleans(),
)
custom = st.dictionaries(
    st.from_regex(r"[!-9;-~]{1,60}", fullmatch=True).map("X-".__add__) | st.just(".dotted"), header_texts, max_size=3
).filter(lambda headers: len({name.lower() for name in headers}) == len(headers))


def has_one_inline(found: list[Attachment]) -> bool:
    """One at most: each `content_id` is given once."""
    return sum(each.content_id is not None for each in found) <= 1


@st.composite
def mails(draw: st.DrawFn) -> EmailRequested:
    text, html = draw(st.tuples(st.none() | bodies, st.none() | bodies).filter(lambda pair: pair != (None, None)))
    return EmailRequested(
        id=ID,
        from_=draw(boxes),
        to=draw(st.lists(boxes, min_size=1, max_size=4)),
        cc=draw(st.lists(boxes, max_size=2)),
        bcc=draw(st.lists(boxes, max_size=2)),
        reply_to=draw(st.lists(boxes, max_size=2)),
        subject=draw(header_texts),
        text=text,
        html=html,
        headers=draw(custom),
        attachments=draw(st.lists(attachments, max_size=3).filter(has_one_inline)),
    )


def build(mail: EmailRequested) -> BuiltMessage:
    return build_message(
        mail, RenderedContent(mail.subject, mail.text, mail.html), identify(ID, name_message(ID, mail.from_), AT)
    )


def take_from_wire(content: bytes) -> bytes:
    """What a relay makes of it, after having looked at it as strictly as one may (RFC 5321 §4.5, RFC 5322 §2)."""
    assert content.endswith(b"\r\n")
    lines = content.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line or b"\x00" in line for line in lines)
    assert max(map(len, lines)) <= 998
    assert b"." not in lines
    assert all(line.startswith(b"..") for line in lines if line.startswith(b"."))
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


def normal(body: str) -> str:
    return body.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")


def texts_of(parsed: Message) -> dict[str, str]:
    """The bodies, by subtype."""
    return {
        part.get_content_subtype(): normal(decode(part).decode())
        for part in parsed.walk()
        if part.get_content_maintype() == "text"
    }


def decode(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


def raw(parsed: Message, name: str) -> str:
    """A header's octets as text, unfolded."""
    (value,) = [value for key, value in parsed.raw_items() if key == name]
    return str(value).encode("utf-8", "surrogateescape").decode().replace("\r\n", "").replace("\n", "")


def check_addressees(parsed: Message, mail: EmailRequested) -> None:
    """With the older functions: the newer parser puts spaces between the encoded words of a name."""
    for name, wanted in (("From", [mail.from_]), ("To", mail.to), ("Cc", mail.cc), ("Reply-To", mail.reply_to)):
        if not wanted:
            assert name not in parsed
            continue
        found = getaddresses([raw(parsed, name)])
        assert [(str(make_header(decode_header(phrase))), address) for phrase, address in found] == [
            (box.name, box.address) for box in wanted
        ]
    assert "Bcc" not in parsed


def check_shape(parsed: Message, mail: EmailRequested) -> None:
    """Headers once each, bodies and files, and no part in 8bit."""
    own = {"From", "Subject", "To", "Date", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"}
    assert len(parsed.keys()) == len(set(parsed.keys()))
    assert set(parsed.keys()) - {"Cc", "Reply-To"} - set(mail.headers) <= own
    assert texts_of(parsed) == {
        subtype: normal(body) for subtype, body in (("plain", mail.text), ("html", mail.html)) if body is not None
    }
    parts = [part for part in parsed.walk() if not part.is_multipart()]
    assert {part["Content-Transfer-Encoding"] for part in parts} <= {"7bit", "base64"}
    files = [part for part in parts if part.get_content_maintype() == "image"]
    order = sorted(mail.attachments, key=lambda each: not (each.content_id and mail.html is not None))
    assert [decode(part) for part in files] == [base64.b64decode(each.content) for each in order]
    assert [name_of(part) for part in files] == [each.filename for each in order]


def name_of(part: Message) -> str:
    """The file's name; `get_filename` would take spaces from its ends."""
    header = part["Content-Disposition"]
    if hasattr(header, "params"):
        return str(header.params["filename"])
    return collapse_rfc2231_value(part.get_param("filename", header="content-disposition") or "")


@modest
@given(mails())
@example(
    EmailRequested(
        id=ID,
        from_=Mailbox("jörg@xn--bcher-kva.example", 'Jörg, \\ "Ö"'),
        to=[Mailbox("a@example.org", "=?utf-8?q?x?=")],
        subject=".",
        text=".\r\n..\r\r\n.",
        html="\x00",
        headers={".dotted": ".", "X-A": " . "},
        attachments=[
            Attachment(filename=".", content="", content_type="image/png", content_id="x@y"),
            Attachment(filename=" ü ", content="Lgo=", content_type="image/png"),
        ],
    )
)
def test_everything_comes_back_from_the_newer_parser(mail: EmailRequested) -> None:
    built = build(mail)
    parsed = message_from_bytes(take_from_wire(built.content), policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    assert not [part.defects for part in parsed.walk() if part.defects]
    assert parsed["Subject"] == mail.subject
    assert parsed["Date"].datetime == AT
    assert {name: parsed[name] for name in mail.headers} == mail.headers
    check_addressees(parsed, mail)
    check_shape(parsed, mail)


@modest
@given(mails())
def test_everything_comes_back_from_the_older_parser(mail: EmailRequested) -> None:
    parsed = message_from_bytes(take_from_wire(build(mail).content), policy=policy.compat32)
    assert not parsed.defects
    assert str(make_header(decode_header(raw(parsed, "Subject")))) == mail.subject
    for name, value in mail.headers.items():
        assert str(make_header(decode_header(raw(parsed, name)))) == value
    check_addressees(parsed, mail)
    check_shape(parsed, mail)


@modest
@given(mails())
def test_only_an_address_beyond_ascii_makes_a_message_so_and_bcc_is_in_none(mail: EmailRequested) -> None:
    built = build(mail)
    shown = [mail.from_, *mail.to, *mail.cc, *mail.reply_to]
    assert built.content.isascii() == all(box.address.isascii() for box in shown)
    assert built.needs_utf8 != all(box.address.isascii() for box in (*shown, *mail.bcc))
    assert build(mail).content == built.content


@modest
@given(mails(), st.lists(boxes, min_size=2, max_size=3), header_texts)
def test_what_mails_share_is_the_same_bytes_whoever_encoded_it_first(
    mail: EmailRequested, recipients: list[Mailbox], subject: str
) -> None:
    memo = Memo()
    for box in recipients:
        one = mail.model_copy(update={"to": [box], "cc": []})
        content = RenderedContent(subject + box.address, mail.text, mail.html)
        identity = identify(ID, name_message(ID, mail.from_), AT)
        assert build_message(one, content, identity, memo) == build_message(one, content, identity)


# --- addresses beyond ASCII ---


@given(st.builds("{}@{}".format, plain_locals, domains).filter(is_address))
def test_an_international_domain_alone_travels_in_ascii_to_any_relay(address: str) -> None:
    kept = check_address(address)
    assert kept.isascii()
    assert not build(EmailRequested(id=ID, from_=Mailbox(kept), to=[Mailbox(kept)], subject="s", text="t")).needs_utf8


@given(st.builds("{}@{}".format, st.text(letters, min_size=1, max_size=15), domains).filter(is_address))
def test_a_local_part_beyond_ascii_stays_and_its_domain_is_ascii_all_the_same(address: str) -> None:
    local, _, domain = check_address(address).rpartition("@")
    assert domain.isascii()  # an A-label, which RFC 6531 §3.2 lets stand: one form in the envelope and everywhere else
    mail = EmailRequested(id=ID, from_=Mailbox(f"{local}@{domain}"), to=[Mailbox("a@x.org")], subject="s", text="t")
    assert build(mail).needs_utf8 is not local.isascii()


# --- what others refuse before it comes here ---


@pytest.mark.parametrize("breakout", ["a\r\nBcc: eve@example.org", "a\nX-Evil: 1", "a\r\n\r\nbody", "a\rb", "a\x00b"])
def test_no_text_breaks_out_of_its_header(breakout: str) -> None:
    mail = EmailRequested(id=ID, from_=Mailbox("a@x.org"), to=[Mailbox("b@x.org")], subject="s", text="t")
    fields: dict[str, Any] = {"headers": {"X-A": breakout}, "to": [Mailbox("b@x.org", breakout)]}
    mail = mail.model_copy(update=fields)
    built = build_message(mail, RenderedContent(breakout, "t", None), identify(ID, name_message(ID, mail.from_), AT))
    parsed = message_from_bytes(take_from_wire(built.content), policy=policy.compat32)
    assert set(parsed.keys()) == {
        "From",
        "Subject",
        "To",
        "X-A",
        "Date",
        "Message-ID",
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
    }
    assert normal(decode(parsed).decode()) == "t"
