"""Which attachments are taken over HTTP, and what is said of the others."""

import base64
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.access import ApiKey
from shared.composing.attachments import (
    DEFAULT_REFUSED,
    AttachmentRules,
    find_extension,
    find_missing_images,
    measure,
    parse_refused,
)
from shared.composing.composer import UnacceptableFields, compose_full, new_identity
from shared.composing.settings import AttachmentSettings
from shared.events import Attachment, EmailRequested, list_errors

KEY = ApiKey("k", "default", "n", "mk_", frozenset(), ("*",), datetime.now(UTC))
MAIL: dict[str, Any] = {"from": "a@example.com", "to": ["b@example.org"], "subject": "s", "html": "<p>x</p>"}


def attach(filename: str = "a.pdf", size: int = 3, **fields: Any) -> Attachment:
    return Attachment(filename=filename, content=base64.b64encode(b"x" * size).decode(), **fields)


def compose(rules: AttachmentRules | None = None, **fields: Any) -> list[tuple[str, str]]:
    """Pointer and detail of what is wrong with a mail; nothing where it is accepted."""
    try:
        mail = EmailRequested.model_validate({**MAIL, **fields})
        compose_full(mail, KEY, new_identity(), rules or AttachmentRules())
    except ValidationError as exc:
        errors = list_errors(exc)
    except UnacceptableFields as exc:
        errors = exc.errors
    else:
        return []
    return [(error["pointer"], error["detail"]) for error in errors]


class TestTypes:
    @pytest.mark.parametrize(
        "filename",
        ["a.exe", "A.EXE", "bill.pdf.scr", "run.ps1", "x.vbs", "a.jar", "a.msi", "setup.exe.", "a.bat ", "x.com"],
    )
    def test_a_file_that_runs_is_refused_by_its_name(self, filename: str) -> None:
        ((pointer, detail),) = compose(attachments=[attach(), attach(filename)])
        assert pointer == "/attachments/1/filename"
        assert find_extension(filename) in detail

    @pytest.mark.parametrize(
        "filename", ["exe", "a.exe.txt", "report.pdf", "notes", "a.zip", "komm.compare", "…", ".", "exe."]
    )
    def test_others_are_taken(self, filename: str) -> None:
        assert compose(attachments=[attach(filename)]) == []

    @pytest.mark.parametrize(
        "kind", ["application/x-msdownload", "Application/X-MSDOS-Program", "text/javascript; charset=x"]
    )
    def test_and_by_its_content_type_where_the_name_is_harmless(self, kind: str) -> None:
        ((pointer, _),) = compose(attachments=[attach("readme.txt", content_type=kind)])
        assert pointer == "/attachments/0/content_type"

    def test_the_list_is_the_operators(self) -> None:
        settings = AttachmentSettings(refused_attachments=".PDF, zip,image/gif")
        rules = settings.attachment_rules
        assert [compose(rules, attachments=[attach(name)]) == [] for name in ("a.pdf", "a.zip", "a.exe")] == [
            False,
            False,
            True,
        ]
        free = AttachmentSettings(refused_attachments="none").attachment_rules
        assert compose(free, attachments=[attach("a.exe")]) == []

    @pytest.mark.parametrize("text", [".exe;.bat", "a/b/c", ".tar.gz"])
    def test_a_list_that_cannot_be_read_stops_the_start(self, text: str) -> None:
        with pytest.raises(ValueError, match="neither an extension"):
            AttachmentSettings(refused_attachments=text)

    def test_the_usual_list_has_what_every_provider_refuses(self) -> None:
        assert {".exe", ".bat", ".cmd", ".com", ".scr", ".js", ".vbs", ".jar", ".msi", ".ps1"} <= parse_refused(
            DEFAULT_REFUSED
        )


class TestSizes:
    def test_one_all_and_how_many_have_a_limit_each(self) -> None:
        rules = AttachmentRules(count=3, size=10, total=20)
        assert compose(rules, attachments=[attach(size=10), attach(size=10)]) == []
        assert [pointer for pointer, _ in compose(rules, attachments=[attach(), attach(size=11)])] == [
            "/attachments/1/content"
        ]
        assert compose(rules, attachments=[attach(size=7)] * 3) == [
            ("/attachments", "all together may have at most 20 bytes; these have 21")
        ]
        assert compose(rules, attachments=[attach()] * 4) == [
            ("/attachments", "a mail may have at most 3 attachments; this has 4")
        ]

    @given(st.binary(max_size=100))
    def test_the_size_is_that_of_the_file(self, content: bytes) -> None:
        assert measure(Attachment(filename="a", content=base64.b64encode(content).decode())) == len(content)


class TestForm:
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("data:image/png;base64,AAAA", "without data:"),
            ("AAAA\r\nAAAA", "line breaks"),
            ("__-_", "alphabet"),
            ("AAA", "multiple of four"),
            ("A===", "RFC 4648"),
            ("AA=A", "RFC 4648"),
            ("ÄÄÄÄ", "RFC 4648"),
        ],
    )
    def test_content_that_is_no_base64_is_told_why(self, content: str, said: str) -> None:
        ((pointer, detail),) = compose(attachments=[{"filename": "a", "content": content}])
        assert pointer == "/attachments/0/content"
        assert said in detail

    @pytest.mark.parametrize(
        "kind",
        [
            "text/plain",
            "application/vnd.ms-excel",
            "text/calendar; method=REQUEST",
            'text/plain;charset="utf-8"',
            "a/b;c=d;e=f",
        ],
    )
    def test_a_content_type_may_have_parameters(self, kind: str) -> None:
        assert compose(attachments=[attach(content_type=kind)]) == []

    @pytest.mark.parametrize(
        "kind",
        ["text", "text/", "/x", "text/plain;", "text/plain; x", "a b/c", "text/plain; a=b c", 'a/b; c="', "a/b; c=ü"],
    )
    def test_what_is_no_content_type_is_refused(self, kind: str) -> None:
        ((pointer, _),) = compose(attachments=[{"filename": "a", "content": "", "content_type": kind}])
        assert pointer == "/attachments/0/content_type"

    @pytest.mark.parametrize("content_id", ["<logo>", "my logo", "", "x" * 201, "ü", "a\nb"])
    def test_a_content_id_is_one_word_of_ascii(self, content_id: str) -> None:
        ((pointer, detail),) = compose(attachments=[{"filename": "a", "content": "", "content_id": content_id}])
        assert pointer == "/attachments/0/content_id"
        assert "without spaces" in detail

    def test_a_content_id_is_given_once_and_none_may_be_given_often(self) -> None:
        twice = [attach(content_id="logo"), attach(), attach(), attach(content_id="logo")]
        assert compose(attachments=twice) == [("/attachments/3", "has the content_id of an attachment before it")]
        assert compose(attachments=[attach(content_id="Logo"), attach(content_id="logo")]) == []


class TestImages:
    @pytest.mark.parametrize(
        "html",
        [
            '<img src="cid:logo">',
            "<IMG alt='x' SRC='CID:logo'/>",
            "<img src=cid:logo>",
            '<td background = "cid:logo">',
            '<div style="background:url(cid:logo)">',
            "<div style=\"background: url( 'cid:logo' )\">",
            '<!--[if mso]><v:fill src="cid:logo"/><![endif]-->',
            '<!--[if !mso]><!--><img src="cid:logo"><!--<![endif]-->',
            '<a href="cid:logo">file</a>',
        ],
    )
    def test_an_image_that_is_not_attached_is_named(self, html: str) -> None:
        fault = ("/html", "refers to cid:logo, and no attachment has this content_id")
        assert compose(html=html) == [fault]
        assert compose(html=html, attachments=[attach(content_id="other"), attach("logo")]) == [fault]
        assert compose(html=html, attachments=[attach(content_id="logo")]) == []

    @pytest.mark.parametrize(
        "html",
        [
            "<p>Write src=&quot;cid:logo&quot; or cid:logo</p>",
            '<!-- <img src="cid:logo"> -->',
            '<img alt="cid:logo" src="https://example.com/?cid:logo">',
            '<img data-src="cid:logo">',
            "<p>placid: calm</p>",
            '<a href="https://x/?q=cid:1">x</a>',
        ],
    )
    def test_what_only_speaks_of_one_is_legal(self, html: str) -> None:
        assert compose(html=html) == []

    @pytest.mark.parametrize(
        ("written", "content_id"), [("a%40b", "a@b"), ("a&amp;b", "a&b"), ("a%2Fb@c", "a/b@c"), ("50%", "50%")]
    )
    def test_a_reference_is_read_as_a_url_in_html(self, written: str, content_id: str) -> None:
        assert compose(html=f'<img src="cid:{written}">', attachments=[attach(content_id=content_id)]) == []

    def test_a_template_is_looked_at_as_it_will_be_sent(self) -> None:
        fields: dict[str, Any] = {"html": '<img src="cid:{{ image }}">', "attachments": [attach(content_id="logo")]}
        assert compose(**fields, variables={"image": "logo"}) == []
        assert [pointer for pointer, _ in compose(**fields, variables={"image": "lego"})] == ["/html"]

    def test_a_file_nobody_refers_to_and_a_mail_without_html_are_legal(self) -> None:
        assert compose(attachments=[attach(content_id="logo")]) == []
        assert compose(html=None, text="cid:logo", attachments=[attach(content_id="logo")]) == []

    def test_ten_are_named_of_many(self) -> None:
        html = "".join(f'<img src="cid:{number}">' for number in range(1000)) * 2
        assert len(compose(html=html)) == 10

    @pytest.mark.parametrize(
        "piece",
        [
            "<!--",
            "<img src=",
            "<img src=cid:",
            ' src="',
            "<",
            " ",
            "url(",
            "<a cid:&amp",
            "<a href=" + " " * 1000,
            "src=src =",
        ],
    )
    def test_whatever_is_written_takes_no_time(self, piece: str) -> None:
        html = f"<a cid: {piece * (300_000 // len(piece))}>"
        began = time.process_time()
        find_missing_images(html, [])
        assert time.process_time() - began < 1
