"""From a message and its envelope to an event: whatever is said in other words is read alike, the rest is refused."""

import base64
import contextlib
import time
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import make_msgid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.smtp.fields import Inexpressible
from services.gateway.smtp.message import ReceivedMail, read_message
from shared.addresses import Mailbox
from shared.events import EmailRequested
from tests.unit.test_sender_message_whole import build, mails, modest, normal, take_from_wire

SENDER, ANN = "no-reply@example.com", "ann@example.org"


def read(content: bytes | EmailMessage, *recipients: str, mail_from: str = SENDER) -> ReceivedMail:
    octets = content if isinstance(content, bytes) else content.as_bytes(policy=SMTP)
    return read_message(octets, mail_from, recipients or (ANN,))


def write(*lines: str, body: str = "Hello", **fields: str) -> bytes:
    """A message, line by line; `fields` replace the usual ones."""
    usual = {"From": SENDER, "To": ANN, "Subject": "Hello"} | {k.replace("_", "-"): v for k, v in fields.items()}
    head = [*(f"{name}: {value}" for name, value in usual.items() if value), *lines]
    return ("\r\n".join(head) + "\r\n\r\n" + body + "\r\n").encode("utf-8", "surrogateescape")


def compose(**headers: str) -> EmailMessage:
    message = EmailMessage()
    for name, value in ({"From": SENDER, "To": ANN, "Subject": "Hello"} | headers).items():
        message[name.replace("_", "-")] = value
    return message


def refuse(content: bytes | EmailMessage, *recipients: str) -> str:
    with pytest.raises(Inexpressible) as caught:
        read(content, *recipients)
    return f"{caught.value.code} {caught.value}"


@settings(modest, max_examples=15)
@given(mails())
def test_what_our_own_builder_writes_is_read_as_the_same_mail(mail: EmailRequested) -> None:
    content = take_from_wire(build(mail).content)
    got = read(content, *mail.recipients, mail_from=mail.from_.address).mail
    assert (got.from_, got.to, got.cc, got.reply_to) == (mail.from_, mail.to, mail.cc, mail.reply_to)
    assert set(got.recipients) == set(mail.recipients)
    assert (got.subject, got.headers) == (mail.subject, mail.headers)
    for body, wanted in ((got.text, mail.text), (got.html, mail.html)):
        assert (body is None) == (wanted is None)
        assert normal(body or "") == normal(wanted or "")
    order = sorted(mail.attachments, key=lambda each: not (each.content_id and mail.html is not None))
    assert got.attachments == order


def test_what_python_writes_with_everything_in_it() -> None:
    message = compose(From="Shop <no-reply@example.com>", To="Änn <ann@example.org>", References="<a@x> <b@x>")
    message["Message-ID"] = made = make_msgid(domain="example.com")
    message["X-Milena-Metadata"], message["X-Milena-Tags"] = '{"order": 42, "größe": "L"}', "order,paid"
    message.set_content("Grüße\n", cte="quoted-printable")
    message.add_alternative("<p>Grüße <img src=cid:logo></p>", subtype="html", charset="iso-8859-1")
    message.get_payload()[1].add_related(b"png", "image", "png", cid="<logo>")  # type: ignore[union-attr, index]
    message.add_attachment(b"pdf", maintype="application", subtype="pdf", filename="Rechnung März.pdf")
    message.add_attachment("a;b\n", subtype="csv", filename="a.csv")
    received = read(message)
    mail = received.mail
    assert (mail.from_, mail.to) == (Mailbox(SENDER, "Shop"), [Mailbox(ANN, "Änn")])
    assert (mail.text, mail.html) == ("Grüße\n", "<p>Grüße <img src=cid:logo></p>\n")
    assert [(each.filename, each.content_type, each.content_id) for each in mail.attachments] == [
        ("attachment-1.png", "image/png", "logo"),
        ("Rechnung März.pdf", "application/pdf", None),
        ("a.csv", "text/csv", None),
    ]
    assert base64.b64decode(mail.attachments[1].content) == b"pdf"
    assert mail.headers == {"References": "<a@x> <b@x>"}
    assert mail.metadata == {"message_id": made, "order": 42, "größe": "L"}
    assert (mail.tags, received.message_id, received.left_out) == (["order", "paid"], made, 0)


def test_the_envelope_decides_who_gets_it() -> None:
    content = write(To="Ann <Ann@example.org>, list@example.org", Cc="Bob <bob@example.org>, Cy <cy@example.org>")
    received = read(content, ANN, "bob@example.org", "blind@example.org")
    mail = received.mail
    assert (mail.to, mail.cc) == ([Mailbox(ANN, "Ann")], [Mailbox("bob@example.org", "Bob")])
    assert [box.address for box in mail.bcc] == ["blind@example.org"]
    assert received.left_out == 2


@pytest.mark.parametrize("shown", ["undisclosed-recipients:;", "Undisclosed recipients: ;", ""])
def test_without_anybody_to_show_all_are_blind_copies(shown: str) -> None:
    mail = read(write("Bcc: secret@example.org", To=shown)).mail
    assert (mail.to, [box.address for box in mail.bcc]) == ([], [ANN])
    assert "bcc" not in {name.lower() for name in mail.headers}


def test_a_group_is_read_as_its_members() -> None:
    assert read(write(To="Friends: ann@example.org, bob@example.org;"), ANN, "bob@example.org").left_out == 0


def test_another_envelope_sender_is_kept() -> None:
    assert read(write(), mail_from="bounces@example.com").mail.envelope_from == "bounces@example.com"
    assert read(write()).mail.envelope_from is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("=?utf-8?Q?Gr=C3=BC=C3=9Fe_an_alle?=", "Grüße an alle"),
        ("=?UTF-8?B?R3LDvA==?=\r\n =?UTF-8?B?w59l?=", "Grüße"),
        ("=?utf-8?B?R3LD?= =?utf-8?B?vMOfZQ==?=", "Grüße"),  # a character split between two words
        ("=?iso-8859-1?Q?=93x=94?=", "“x”"),
        ("Re: =?gb2312?B?xOO6ww==?= (2)", "Re: 你好 (2)"),
        ("a =?x", "a =?x"),
        ("folded\r\n\tonce", "folded\tonce"),
        ("Grüße", "Grüße"),
        ("=?utf-8*de?Q?=C3=BC?=", "ü"),
    ],
)
def test_a_subject_in_any_writing(written: str, meant: str) -> None:
    assert read(write(Subject=written)).mail.subject == meant


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("=?utf-8?Q?Lee,_Ann?= <ann@example.org>", "Lee, Ann"),
        ('"=?utf-8?B?w4Rubg==?=" <ann@example.org>', "Änn"),
        ("=?utf-8?B?w4Ru?=\r\n =?utf-8?B?bg==?= Lee <ann@example.org>", "Änn Lee"),
        ("Änn <ann@example.org>", "Änn"),
    ],
)
def test_a_name_in_any_writing(written: str, name: str) -> None:
    assert read(write(To=written)).mail.to == [Mailbox(ANN, name)]


@pytest.mark.parametrize(
    ("content_type", "octets", "meant"),
    [
        ("text/plain; charset=iso-8859-1", b"Gr\xfc\xdfe", "Grüße"),
        ("text/plain; charset=windows-1252", b"\x80", "€"),
        ("text/plain; charset=iso-8859-1", b"\x80", "€"),
        ("text/plain", "Grüße".encode(), "Grüße"),
        ("text/plain; charset=us-ascii; format=flowed", b"Hello", "Hello"),
        ("text/plain; charset=koi8-r", "Привет".encode("koi8-r"), "Привет"),
    ],
)
def test_a_text_in_any_charset(content_type: str, octets: bytes, meant: str) -> None:
    head = write(f"Content-Type: {content_type}", "Content-Transfer-Encoding: 8bit", body="").removesuffix(b"\r\n")
    assert read(head + octets).mail.text == meant


def test_a_message_within_the_message_is_carried_byte_for_byte() -> None:
    within = write("X-Folded: a\r\n\tb", "Received: from x", body="Grüße\r\n\r\nFrom here").removesuffix(b"\r\n")
    content = (
        write("Content-Type: multipart/mixed; boundary=b", body="").removesuffix(b"\r\n")
        + b"--b\r\n\r\nSee below\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
        + within
        + b"\r\n--b--\r\n"
    )
    mail = read(content).mail
    assert mail.text == "See below"
    (file,) = mail.attachments
    assert (file.filename, file.content_type) == ("message.eml", "message/rfc822")
    assert base64.b64decode(file.content) == within


def test_a_file_without_a_word_is_a_mail_with_an_empty_text() -> None:
    message = compose()
    message.set_content(b"pdf", maintype="application", subtype="pdf", filename="scan.pdf")
    mail = read(message).mail
    assert (mail.text, mail.html, [each.filename for each in mail.attachments]) == ("", None, ["scan.pdf"])


def test_a_text_file_is_no_body() -> None:
    message = compose()
    message.set_content("Hello\n")
    message.add_attachment("log\n", filename="x.log", disposition="inline")
    assert (read(message).mail.text, len(read(message).mail.attachments)) == ("Hello\n", 1)


def test_related_around_alternatives_is_the_same_mail() -> None:
    parts = (
        "--o\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n--i\r\n\r\ntext\r\n"
        "--i\r\nContent-Type: text/html\r\n\r\n<img src=cid:a@x>\r\n--i--\r\n"
        "--o\r\nContent-Type: image/gif; name==?utf-8?q?=C3=BC.gif?=\r\nContent-ID: <a@x>\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\nR0lG\r\n--o--"
    )
    mail = read(write('Content-Type: multipart/related; boundary="o"', body=parts)).mail
    assert (mail.text, mail.html) == ("text", "<img src=cid:a@x>")
    assert [(each.filename, each.content_id, each.content) for each in mail.attachments] == [("ü.gif", "a@x", "R0lG")]


def test_headers_pass_but_for_those_that_are_milenas() -> None:
    passed = {
        "In-Reply-To": "<a@x>",
        "List-Unsubscribe": "<https://example.com/?a=b>, <mailto:x@example.com>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "Auto-Submitted": "auto-generated",
        "X-Priority": "1",
    }
    dropped = ["Date: today", "Received: from x", "Received: from y", "DKIM-Signature: v=1", "Sender: x@example.com"]
    lines = [f"{name}: {value}" for name, value in passed.items()]
    assert read(write(*dropped, *lines, "x-priority: 1", "MIME-Version: 1.0")).mail.headers == passed


def calendar() -> EmailMessage:
    message = compose()
    message.set_content("Hello\n")
    message.add_alternative(b"BEGIN:VCALENDAR", maintype="text", subtype="calendar", disposition="inline")
    return message


def multipart(kind: str, *parts: str) -> bytes:
    body = "".join(f"--b\r\n{part}\r\n" for part in parts) + "--b--"
    return write(f'Content-Type: multipart/{kind}; boundary="b"', body=body)


REFUSED: dict[str, tuple[Any, str]] = {
    "signed": (multipart("signed", "\r\nx", "\r\nx"), "5.6.3 multipart/signed: signed or encrypted"),
    "smime": (write("Content-Type: application/pkcs7-mime"), "5.6.3 application/pkcs7-mime: signed"),
    "report": (multipart("report", "\r\nx"), "5.6.1 multipart/report cannot be carried"),
    "calendar": (calendar(), "5.6.1 an alternative of type text/calendar cannot be carried; give it as an attachment"),
    "two texts": (multipart("mixed", "\r\nx", "\r\ny"), "5.6.1 there are several texts outside multipart/alternative"),
    "two plain": (multipart("alternative", "\r\nx", "\r\ny"), "5.6.1 there are several alternatives of one type"),
    "no end": (multipart("mixed", "\r\nx").replace(b"--b--", b""), "5.6.0 the message is broken: CloseBoundary"),
    "no boundary": (write("Content-Type: multipart/mixed"), "5.6.0 the message is broken: NoBoundary"),
    "charset": (write("Content-Type: text/plain; charset=x-none"), "5.6.1 a text is not in the charset"),
    "octets": (write(body="\udcff"), "5.6.1 a text is not in the charset"),
    "encoding": (write("Content-Transfer-Encoding: uuencode"), "5.6.1 a part has a Content-Transfer-Encoding"),
    "base64": (write("Content-Transfer-Encoding: base64", body="R0l*G"), "5.6.0 the message is broken: InvalidBase64"),
    "no from": (write(From=""), "5.6.0 give exactly one address in From"),
    "two from": (write(From="a@example.com, b@example.com"), "5.6.0 give exactly one address in From"),
    "bad to": (write(To="ann@example.org <"), "5.6.0 the header To:"),
    "twice": (write("X-A: 1", "x-a: 2"), "5.6.0 the header x-a is given twice"),
    "two subjects": (write("Subject: other"), "5.6.0 the header Subject is given twice"),
    "word": (write(Subject="=?utf-8?B?/w==?="), "5.6.0 the header Subject has an encoded word"),
    "raw octets": (write(Subject="\udcff"), "5.6.0 the header Subject holds bytes"),
    "a line break in a word": (write(Subject="=?utf-8?Q?a=0D=0AX:_b?="), "5.6.0 /subject must not contain CR"),
    "metadata": (write("X-Milena-Metadata: [1]"), "5.6.0 X-Milena-Metadata must be a JSON object"),
    "number": (write('X-Milena-Metadata: {"a": 18446744073709551616}'), "5.6.0 X-Milena-Metadata holds a whole number"),
    "tags": (write(f"X-Milena-Tags: {'x,' * 21}"), "5.6.0 /tags"),
    "own": (write("X-Milena-Tag: x"), "5.6.0 X-Milena-Tag is not known"),
    "content id": (
        multipart("related", "\r\nx", "Content-Type: image/png\r\nContent-ID: <a b>\r\n\r\n"),
        "5.6.0 /attachments/0/content_id",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_carried_is_refused_with_the_reason(case: str) -> None:
    content, said = REFUSED[case]
    assert refuse(content).startswith(said)


def test_nesting_has_an_end() -> None:
    layers = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(5000))
    assert refuse(b"From: no-reply@example.com\r\n" + layers).startswith("5.6.0 ")


@pytest.mark.parametrize(
    "content",
    [
        write(To="x:" + " " * 200_000 + "y"),
        write(To="x:" + " " * 300_000 + "y"),
        write(Subject="=?utf-8?q?x?= " * 15_000),
        write("Content-Type: text/plain; " + '";' * 500_000),
        write("Content-Disposition: " + ";x" * 4_000),
        write(body="\r\n" * 900_000, To="x" * 200_000),
        b"".join(b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (n, n) for n in range(200))
        + b"\n" * 1_500_000,
    ],
    ids=range(7),
)
def test_nothing_takes_seconds_to_read(content: bytes) -> None:
    began = time.process_time()
    with contextlib.suppress(Inexpressible):
        read(content)
    assert time.process_time() - began < 4


PIECES = st.sampled_from(
    b"From: a@example.com\r\n|To: <|Subject: =?utf-8?B?|?=|Content-Type: |multipart/mixed|; boundary=b|--b|--b--|"
    b"text/html|; charset=|utf-16|message/rfc822|\r\n|\r\n\r\n|\n |\x00|\xff|Content-Transfer-Encoding: base64|*0*|"
    b"Content-ID: <|Content-Disposition: attachment; filename*=|x'y'%ff|X-Milena-Metadata: {|\"|;|:|,|=|@".split(b"|")
)


@modest
@given(st.lists(PIECES | st.binary(max_size=5), max_size=40).map(b"".join))
def test_whatever_comes_is_a_mail_or_a_refusal(content: bytes) -> None:
    try:
        assert read(content).mail.recipients == [ANN]
    except Inexpressible as exc:
        assert str(exc)
