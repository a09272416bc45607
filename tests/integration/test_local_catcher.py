"""The mail catcher keeps what it is sent, byte for byte, and shows hostile mail without harm."""

import asyncio
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import httpx
import pytest

from deploy.local.catcher import Catcher, Mailbox


@pytest.fixture
async def catcher(tmp_path: Path) -> AsyncIterator[Catcher]:
    started = Catcher(Mailbox(tmp_path / "mail", limit=5))
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def page(catcher: Catcher) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{catcher.page_port}") as client:
        yield client


async def send(catcher: Catcher, content: bytes, recipients: tuple[str, ...] = ("b@example.org",)) -> None:
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=catcher.smtp_port) as smtp:
        await smtp.sendmail("a@example.org", recipients, content)


def build_mail() -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "Ann <a@example.org>"
    mail["To"] = "b@example.org"
    mail["Subject"] = "Grüße <script>alert(1)</script>"
    mail.set_content("the text part")
    mail.add_alternative('<p>the html part</p><img src="cid:logo"><script>alert(2)</script>', subtype="html")
    html = mail.get_payload(1)
    assert isinstance(html, EmailMessage)
    html.add_related(b"\x89PNG", "image", "png", cid="<logo>")
    mail.add_attachment(b"<b>file</b>", maintype="text", subtype="html", filename='a".html')
    return mail


async def test_mail_is_kept_byte_for_byte(catcher: Catcher) -> None:
    content = b"Subject: dots\r\n\r\n.leading dot\r\n..two\r\n8 bit: \xc3\xbc\r\n"
    await send(catcher, content)
    [path] = catcher.mailbox.directory.iterdir()
    assert path.suffix == ".eml"
    assert path.read_bytes() == content


async def test_only_the_newest_are_kept_and_numbers_go_on_after_a_restart(catcher: Catcher) -> None:
    for number in range(7):
        await send(catcher, b"Subject: %d\r\n\r\n" % number)
    assert catcher.mailbox.numbers() == (7, 6, 5, 4, 3)
    assert len(list(catcher.mailbox.directory.iterdir())) == 5
    assert Mailbox(catcher.mailbox.directory, limit=5).numbers() == (7, 6, 5, 4, 3)


async def test_blind_copies_are_seen_in_the_envelope(catcher: Catcher, page: httpx.AsyncClient) -> None:
    await send(catcher, build_mail().as_bytes(), ("b@example.org", "hidden@example.org"))
    [mail] = (await page.get("/mails.json")).json()["mails"]
    assert mail["envelope_to"] == ["b@example.org", "hidden@example.org"]
    assert mail["to"] == "b@example.org"
    assert (await page.get("/mails.json?q=HIDDEN@")).json()["mails"] == [mail]
    assert (await page.get("/mails.json?q=nobody")).json()["mails"] == []


async def test_page_shows_every_side_of_a_mail_and_escapes_it(catcher: Catcher, page: httpx.AsyncClient) -> None:
    await send(catcher, build_mail().as_bytes())
    for path in ("/", "/mails/1"):
        answer = await page.get(path)
        assert answer.status_code == 200
        assert "Grüße &lt;script&gt;" in answer.text
        assert "<script>alert" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "the text part" in answer.text
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in answer.text
    assert "MIME-Version" in (await page.get("/mails/1/source")).text


async def test_html_of_a_mail_may_run_and_load_nothing(catcher: Catcher, page: httpx.AsyncClient) -> None:
    await send(catcher, build_mail().as_bytes())
    answer = await page.get("/mails/1/html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-popups")
    assert "allow-scripts" not in policy
    assert "allow-same-origin" not in policy
    assert "default-src 'none'; img-src data:" in policy
    assert 'src="data:image/png;base64,iVBORw=="' in answer.text
    file = await page.get("/mails/1/parts/1")
    assert file.headers["content-type"] == "application/octet-stream"
    assert file.headers["content-disposition"] == "attachment; filename*=UTF-8''a%22.html"
    assert file.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no header at all\r\n",
        b"Subject: =?nonsense?B?////?=\r\nContent-Type: text/html; charset=nonsense\r\n\r\n\xff\xfe\r\n",
        b"Content-Type: multipart/mixed; boundary=\r\n\r\n--\r\n",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n%%%\r\n",
        b"Subject: \xff\xfe\x00raw\r\nTo: <<<>>>,,\r\n\r\nx\r\n",
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(1500)),
    ],
)
async def test_broken_mail_is_shown_all_the_same(catcher: Catcher, page: httpx.AsyncClient, content: bytes) -> None:
    await send(catcher, content)
    for path in ("/", "/mails.json", "/mails/1", "/mails/1.json", "/mails/1/html", "/mails/1/source"):
        assert (await page.get(path)).status_code == 200, path


async def test_another_site_cannot_read_mail_through_a_rebound_name(page: httpx.AsyncClient) -> None:
    assert (await page.get("/", headers={"Host": "evil.example"})).status_code == 403
    assert (await page.get("/", headers={"Host": "localhost:8025"})).status_code == 200
    assert (await page.get("/", headers={"Host": "[::1]:8025"})).status_code == 200


async def test_unknown_mail_is_a_404(page: httpx.AsyncClient) -> None:
    assert (await page.get("/mails/99")).status_code == 404


async def test_pipelined_conversation_is_announced_and_answered_in_order(catcher: Catcher) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", catcher.smtp_port)
    writer.write(b"EHLO me\r\n")
    greeting = [await reader.readline()]
    while not greeting[-1].startswith(b"250 "):
        greeting.append(await reader.readline())
    assert b"250-PIPELINING\r\n" in greeting
    mail = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
    writer.write(mail + b"Subject: 1\r\n\r\n.\r\n" + mail + b"Subject: 2\r\n\r\n.\r\n" + b"QUIT\r\n")
    codes = [(await reader.readline())[:3] for _ in range(9)]
    assert codes == [b"250", b"250", b"354", b"250", b"250", b"250", b"354", b"250", b"221"]
    assert catcher.mailbox.numbers() == (2, 1)
    writer.close()
    await writer.wait_closed()
