"""Mail by SMTP: what swaks and Python's client are answered, and what lies on the topic then."""

import asyncio
import json
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import make_msgid
from pathlib import Path
from typing import Any

import pytest
import trustme

from deploy.local.ports import find_free_port
from shared.access import ApiScope
from tests.bench.figures import NotMeasured
from tests.bench.packages import Program, find_program
from tests.support.gateway import mint, read_requests
from tests.support.servers import RealServers, run_apart
from tests.support.services import ServiceProcess, ServiceRunner
from tests.support.stack import Stack

SWAKS = Program("swaks", "usr/bin/swaks", ("swaks", "libnet-ssleay-perl"))
NOBODY = "203.0.113.0/24"


@dataclass(frozen=True)
class Ingest:
    """A running one that takes keys over TLS only."""

    stack: Stack
    process: ServiceProcess
    port: int
    ca_file: Path
    secret: str
    weak_secret: str  # it may read, not send

    def log_in(self) -> smtplib.SMTP:
        client = smtplib.SMTP("127.0.0.1", self.port, timeout=15)
        client.starttls(context=ssl.create_default_context(cafile=str(self.ca_file)))
        client.login("milena", self.secret)
        return client


@pytest.fixture(scope="module")
def ingest(real_servers: RealServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingest]:
    directory = tmp_path_factory.mktemp("ingest")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(directory / "cert.pem"))
    database, prefix, port = real_servers.create_database(), real_servers.create_topics(), find_free_port()
    stack = Stack(real_servers.bootstrap_servers(), prefix, real_servers.postgres().database_url(database))
    runner = ServiceRunner({**stack.env(), "MILENA_LOG_LEVEL": "DEBUG"}, preloaded=True)
    settings = {"PORT": str(port), "TLS_CERT": str(directory / "cert.pem"), "OPEN_NETWORKS": NOBODY}
    try:
        env = {f"MILENA_SMTP_INGEST_{name}": value for name, value in settings.items()}
        process = runner.start("services.gateway", "smtp", env=env)
        secret = run_apart(mint(stack.database_url)).secret
        weak = run_apart(mint(stack.database_url, scopes=[ApiScope.EMAILS_READ])).secret
        run_apart(process.wait_ready(60))
        yield Ingest(stack, process, port, directory / "ca.pem", secret, weak)
    finally:
        runner.stop_all()
        real_servers.drop_topics(prefix)
        real_servers.drop_database(database)


def run_swaks(ingest: Ingest, *arguments: str, password: str) -> subprocess.CompletedProcess[str]:
    path, env = find_swaks()
    command = [path, "--server", "127.0.0.1", "--port", str(ingest.port), "--tls", "--tls-verify"]
    login = ["--auth", "PLAIN", "--auth-user", "milena", "--auth-password", password]
    trust = ["--tls-ca-path", str(ingest.ca_file), "--from", "no-reply@example.com"]
    return subprocess.run([*command, *trust, *login, *arguments], env=env, capture_output=True, text=True, check=False)


def find_swaks() -> tuple[str, dict[str, str]]:
    """Installed, or unpacked into the cache with what it needs for TLS."""
    try:
        swaks = find_program(SWAKS)
    except NotMeasured as exc:
        pytest.skip(str(exc))
    modules = [*swaks.path.parents[2].glob("usr/lib/*/perl5/*"), swaks.path.parents[2] / "usr/share/perl5"]
    env = {**swaks.env, "PERL5LIB": ":".join(map(str, modules))}
    can = subprocess.run([str(swaks.path), "--support"], env=env, capture_output=True, text=True, check=False).stdout
    if "=== TLS supported" not in can:
        pytest.skip("swaks cannot speak TLS here")
    return str(swaks.path), env


def build(**headers: str) -> EmailMessage:
    message = EmailMessage()
    for name, value in {"From": "no-reply@example.com", "To": "ann@example.org", "Subject": "Hello"}.items():
        message[name] = value
    for name, value in headers.items():
        del message[name.replace("_", "-")]
        message[name.replace("_", "-")] = value
    message.set_content("Hello\n")
    return message


def find_id(reply: bytes | str) -> str:
    text = reply.decode() if isinstance(reply, bytes) else reply
    return text.partition("queued as ")[2].split()[0].strip(";")


async def find_mail(ingest: Ingest, email_id: str) -> dict[str, Any]:
    (found,) = [each for each in await read_requests(ingest.stack) if each.key.decode() == email_id]
    mail: dict[str, Any] = json.loads(found.value)
    return mail


async def test_swaks_sends_with_starttls_and_auth(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "bill.txt").write_text("42 EUR\n")
    done = run_swaks(
        ingest,
        *("--to", "ann@example.org,secret@example.org", "--header", "To: Ann Lee <ann@example.org>"),
        *("--header", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=", "--header", "X-Milena-Tags: order, paid"),
        *("--attach-type", "application/pdf", "--attach", f"@{tmp_path / 'bill.txt'}"),
        password=ingest.secret,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    mail = await find_mail(ingest, find_id(done.stdout))
    assert mail["to"] == ["Ann Lee <ann@example.org>"]
    assert mail["bcc"] == ["secret@example.org"]
    assert (mail["subject"], mail["tags"]) == ("Grüße", ["order", "paid"])
    assert mail["attachments"][0]["content_type"] == "application/pdf"
    assert "message_id" in mail["metadata"]


def test_swaks_with_a_wrong_key_is_told_535_and_without_tls_nothing_of_auth(ingest: Ingest) -> None:
    for password in (f"mk_{'x' * 43}", ingest.weak_secret):
        done = run_swaks(ingest, "--to", "ann@example.org", password=password)
        assert done.returncode != 0
        assert "535 5.7.8" in done.stdout
    with smtplib.SMTP("127.0.0.1", ingest.port, timeout=15) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        assert not client.has_extn("auth")
        assert client.docmd("AUTH", "PLAIN AG1pbGVuYQB4")[0] == 538
        assert client.docmd("MAIL", "FROM:<no-reply@example.com>")[0] == 530


async def test_python_sends_to_all_and_a_repeat_is_the_same_mail(ingest: Ingest) -> None:
    message = build(Message_ID=make_msgid(domain="example.com"), Cc="Bob <bob@example.org>, absent@example.org")
    recipients = ["ann@example.org", "bob@example.org", "blind@example.org"]
    replies = []
    with ingest.log_in() as client:
        for _ in range(2):
            client.mail("no-reply@example.com", ["BODY=8BITMIME", "AUTH=<>"])
            assert [client.rcpt(each)[0] for each in recipients] == [250] * 3
            replies.append(client.data(message.as_bytes(policy=SMTP)))
    assert replies[0] == replies[1]
    assert replies[0][0] == 250
    assert b"1 of To and Cc left out" in replies[0][1]
    found = [r for r in await read_requests(ingest.stack) if r.key.decode() == find_id(replies[0][1])]
    assert len(found) == 2  # one id: the ledger sends it once
    mail = json.loads(found[0].value)
    assert (mail["to"], mail["cc"], mail["bcc"]) == (["ann@example.org"], ["Bob <bob@example.org>"], recipients[2:])


def test_what_cannot_be_taken_is_refused_with_what_to_do(ingest: Ingest) -> None:
    with ingest.log_in() as client:

        def give(message: EmailMessage | bytes, sender: str = "no-reply@example.com") -> tuple[int, bytes]:
            client.rset()
            code, said = client.mail(sender)
            if code != 250:
                return code, said
            client.rcpt("ann@example.org")
            return client.data(message if isinstance(message, bytes) else message.as_bytes(policy=SMTP))

        assert give(build(), "eve@example.net") == (
            550,
            b"5.7.1 The API key may not send from the address in MAIL FROM",
        )
        assert give(build(), "")[0] == 550
        assert give(build(From="eve@example.net"))[1] == (
            b"5.7.1 The API key may not send from the address in the header From"
        )
        signed = build()
        signed.make_mixed()
        signed.replace_header("Content-Type", "multipart/signed")
        assert give(signed)[1].startswith(b"5.6.3 multipart/signed: signed or encrypted")
        large = build()
        large.add_attachment(b"\0" * 1_000_000, maintype="application", subtype="zip", filename="a.zip")
        code, said = give(large)
        assert (code, said[:5]) == (552, b"5.3.4")
        assert client.docmd("MAIL", "FROM:<no-reply@example.com> SIZE=99999999")[0] == 552
        assert give(build())[0] == 250


def test_whoever_goes_away_or_talks_nonsense_hurts_nobody(ingest: Ingest) -> None:
    gone = ingest.log_in()
    gone.mail("no-reply@example.com")
    gone.rcpt("ann@example.org")
    gone.putcmd("DATA")
    gone.getreply()
    gone.send(b"From: no-reply@example.com\r\n")
    gone.close()
    with socket.create_connection(("127.0.0.1", ingest.port), 15) as rude, rude.makefile("rb") as heard:
        rude.sendall(b"x" * 2_000_000 + b"\r\n\x16\x03\x01\xff\r\n")
        assert [heard.readline()[:3] for _ in range(3)] == [b"220", b"500", b"500"]
    guessing = smtplib.SMTP("127.0.0.1", ingest.port, timeout=15)
    guessing.starttls(context=ssl.create_default_context(cafile=str(ingest.ca_file)))
    guessing.ehlo()
    assert [guessing.docmd("AUTH", "PLAIN AG1pbGVuYQB4")[0] for _ in range(3)] == [535] * 3
    with pytest.raises(smtplib.SMTPServerDisconnected):
        guessing.docmd("NOOP")
    with ingest.log_in() as client:
        assert client.noop()[0] == 250


def test_one_recipient_too_many_is_452_and_the_others_get_their_mail(ingest: Ingest) -> None:
    with ingest.log_in() as client:
        client.mail("no-reply@example.com")
        lines = "".join(f"RCPT TO:<u{number}@example.org>\r\n" for number in range(1001))
        client.send(lines)
        replies = [client.getreply() for _ in range(1001)]
        assert {code for code, _ in replies[:1000]} == {250}
        assert replies[1000][0] == 452
        assert replies[1000][1].startswith(b"4.5.3 ")
        assert client.data(build().as_bytes(policy=SMTP))[0] == 250


async def test_sigterm_finishes_the_mail_at_work_and_says_goodbye_to_the_others(ingest: Ingest) -> None:
    client, idle = ingest.log_in(), socket.create_connection(("127.0.0.1", ingest.port), 15)
    assert idle.recv(100).startswith(b"220 ")
    client.mail("no-reply@example.com")
    client.rcpt("ann@example.org")
    client.putcmd("DATA")
    assert client.getreply()[0] == 354
    ingest.process.terminate()
    assert (await asyncio.to_thread(idle.recv, 100)).startswith(b"421 4.3.2")
    idle.close()
    client.send(build().as_bytes(policy=SMTP) + b".\r\n")
    assert client.getreply()[0] == 250
    assert client.getreply()[0] == 421
    client.close()
    assert await ingest.process.wait_exit() == 0
    log = ingest.process.read_log()
    for secret in (ingest.secret, ingest.weak_secret, "example.org", "example.com", "42 EUR", "Grüße"):
        assert secret not in log
