"""`check`: each step towards a relay with its words, and on failure the setting to change. Real sockets."""

import asyncio
import base64
import json
import os
import ssl
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from deploy.local.ports import find_free_port
from deploy.local.settings import REPOSITORY
from services.sender.checking import RelayCheck, check_relays
from services.sender.connecting import RelayAddress
from services.sender.settings import WorkerSettings
from services.sender.trial import Envelope, address_trial
from tests.support.smtp import Answer, Script, SmtpServer, run_smtp

PASSWORD = "correct horse battery staple"
ENCODED = base64.b64encode(f"\0ann\0{PASSWORD}".encode()).decode()
ENVELOPE = Envelope("shop@example.com", "me@x.org")


async def visit(
    server: SmtpServer | int, *, envelope: Envelope | None = ENVELOPE, host: str = "127.0.0.1", **options: object
) -> tuple[bool, list[str]]:
    """Check a relay; gives whether it is good, and what was printed."""
    port = server if isinstance(server, int) else server.port
    address = replace(RelayAddress(host, port, timeout_s=2), **options)  # type: ignore[arg-type]
    said: list[str] = []
    good = await RelayCheck(address, name_settings, said.append, envelope=envelope).run()
    return good, said


def name_settings(*fields: str) -> str:
    return " and ".join(f"SET_{each.upper()}" for each in fields)


def refuse(step: str, answer: str) -> Script:
    def decide(asked: str, _argument: str) -> Answer:
        return answer if asked == step else None

    return Script(decide)


def secure(*names: str, implicit: bool = False) -> tuple[Script, trustme.CA]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return Script(tls_context=context, implicit_tls=implicit), authority


def write_ca(authority: trustme.CA, directory: Path) -> str:
    path = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def steps_of(said: list[str]) -> list[tuple[str, str]]:
    return [(words[0], words[1]) for line in said if (words := line.split())[0] in ("ok", "FAIL")]


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_good_relay_says_its_words_at_each_step_and_gets_one_mail(tls: str, tmp_path: Path) -> None:
    script, authority = secure("127.0.0.1", implicit=tls == "tls")
    ca_file = write_ca(authority, tmp_path)
    async with run_smtp(script) as server:
        good, said = await visit(server, tls=tls, ca_file=ca_file, username="ann", password=PASSWORD)
        assert good, said
        (mail,) = server.taken
        assert server.commands[-1] == "QUIT"
    names = [name for _, name in steps_of(said)]
    secured = ["greeting", "EHLO", "TLS"] if tls == "starttls" else ["TLS", "EHLO"]
    assert names == ["DNS", "connect", *secured, "AUTH", "MAIL", "RCPT", "content"]
    shown = "\n".join(said)
    assert "TLSv1.3, certificate verified" in shown
    assert "PIPELINING" in shown
    assert "250 2.0.0 queued as SCRIPTED" in shown
    assert (mail.sender, mail.recipients) == ("shop@example.com", ("me@x.org",))
    assert mail.message["To"] == "me@x.org"
    assert PASSWORD not in shown


async def test_nothing_is_sent_where_it_is_not_wanted() -> None:
    async with run_smtp() as server:
        good, said = await visit(server, envelope=None, username="ann", password=PASSWORD)
        assert good, said
        assert not [each for each in server.commands if each.startswith("MAIL")]
    assert steps_of(said)[-1] == ("ok", "AUTH")


@pytest.mark.parametrize(
    ("step", "answer", "failed", "advice"),
    [
        ("connect", "554 5.7.1 not you", "greeting", "SET_HOST"),
        ("connect", "421 4.3.2 busy", "greeting", "SET_HOST"),
        ("connect", "HANG", "greeting", "SET_TLS"),
        ("ehlo", "550 5.7.1 need a full name", "EHLO", "SET_LOCAL_HOSTNAME"),
        ("auth", "535 5.7.8 bad credentials", "AUTH", "SET_USERNAME and SET_PASSWORD"),
        ("mail", "553 5.7.1 not your address", "MAIL", "--from"),
        ("rcpt", "550 5.1.1 no such user", "RCPT", "--to"),
        ("data", "451 4.3.0 later", "content", "--from"),
        ("dot", "554 5.7.1 spam", "content", "--from"),
        ("dot", "LOSE", "content", "SET_FINAL_DOT_TIMEOUT"),
    ],
)
async def test_a_refusal_is_repeated_with_the_setting_to_change(
    step: str, answer: str, failed: str, advice: str
) -> None:
    async with run_smtp(refuse(step, answer)) as server:
        good, said = await visit(server, username="ann", password=PASSWORD)
    assert not good
    assert steps_of(said)[-1] == ("FAIL", failed)
    if answer[0].isdigit():
        assert answer in said[-2]
    assert said[-1].split()[0] == "check"
    assert advice in said[-1]


async def test_a_relay_that_wants_to_know_who_sends_is_understood() -> None:
    async with run_smtp(refuse("rcpt", "554 5.7.1 relay access denied")) as server:
        _, said = await visit(server)
    assert "SET_USERNAME" in said[-1]


async def test_a_password_that_the_relay_repeats_is_not_printed() -> None:
    for leak in (PASSWORD, ENCODED):
        async with run_smtp(refuse("auth", f"535 5.7.8 wrong: {leak}")) as server:
            good, said = await visit(server, username="ann", password=PASSWORD)
        assert not good
        assert "535 5.7.8 wrong: ***" in said[-2]


@pytest.mark.parametrize("tls", ["starttls", "tls"])
@pytest.mark.parametrize(("fault", "advice"), [("authority", "SET_CA_FILE"), ("name", "SET_HOST")])
async def test_an_untrusted_certificate_is_named(tls: str, fault: str, advice: str, tmp_path: Path) -> None:
    script, authority = secure("relay.example.org" if fault == "name" else "127.0.0.1", implicit=tls == "tls")
    ca_file = write_ca(authority if fault == "name" else trustme.CA(), tmp_path)
    async with run_smtp(script) as server:
        good, said = await visit(server, tls=tls, ca_file=ca_file)
        trusted, told = await visit(server, tls=tls, verify=False)
    assert not good
    assert steps_of(said)[-1] == ("FAIL", "TLS")
    assert "certificate refused" in said[-2]
    assert advice in said[-1]
    assert trusted, told
    assert "certificate NOT verified" in "\n".join(told)


async def test_tls_where_there_is_none_and_the_other_way_round() -> None:
    async with run_smtp() as plain:
        for tls in ("starttls", "tls"):
            good, said = await visit(plain, tls=tls)
            assert (good, steps_of(said)[-1]) == (False, ("FAIL", "TLS"))
            assert "SET_TLS" in said[-1]
    script, _ = secure("127.0.0.1", implicit=True)
    async with run_smtp(script) as encrypted:
        good, said = await visit(encrypted)
        assert (good, steps_of(said)[-1]) == (False, ("FAIL", "greeting"))
        assert "SET_TLS" in said[-1]


async def test_an_auth_that_is_not_offered_is_not_tried_with_the_password() -> None:
    async with run_smtp(Script(extensions=("PIPELINING",))) as server:
        good, said = await visit(server, username="ann", password=PASSWORD)
        assert not [each for each in server.commands if each.startswith("AUTH")]
    assert (good, steps_of(said)[-1]) == (False, ("FAIL", "AUTH"))
    assert "SET_TLS" in said[-1]


async def test_a_closed_port_and_a_name_nobody_knows() -> None:
    good, said = await visit(find_free_port())
    assert (good, steps_of(said)[-1]) == (False, ("FAIL", "connect"))
    assert "SET_PORT" in said[-1]
    good, said = await visit(25, host="relay.invalid")
    assert (good, steps_of(said)) == (False, [("FAIL", "DNS")])
    assert "SET_HOST" in said[-1]


async def test_an_address_beyond_ascii_is_sent_as_it_is() -> None:
    async with run_smtp() as server:
        good, said = await visit(server, envelope=Envelope("shop@example.com", "jörg@x.org"))
        assert good, said
        assert server.taken[0].recipients == ("jörg@x.org",)
        assert any(each.endswith("SMTPUTF8") for each in server.commands)


async def test_every_relay_of_the_list_is_tried_and_one_bad_one_fails_the_check() -> None:
    token = "a-token-nobody-must-see"
    answers = [(202, "queued"), (401, f"bad token {token}"), (422, "no such sender")]
    asked: list[dict[str, object]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json())
        status, text = answers[len(asked) - 1]
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_post("/send", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (url,) = (f"http://127.0.0.1:{port}/send" for _, port in runner.addresses)
    try:
        async with run_smtp() as server:
            relays = [
                {"name": "main", "host": "127.0.0.1", "port": server.port},
                {"name": "api", "kind": "http", "url": url, "token": token},
            ]
            settings = WorkerSettings.model_validate({"relays": json.dumps(relays)})
            found = []
            for _ in answers:
                said: list[str] = []
                found.append((await check_relays(settings, ENVELOPE, said.append), "\n".join(said)))
            assert len(server.taken) == 3
    finally:
        await runner.cleanup()
    assert [good for good, _ in found] == [True, False, False]
    assert asked[0]["envelope"] == {"from": "shop@example.com", "to": ["me@x.org"]}
    assert "HTTP 202 queued" in found[0][1]
    assert "check token of relay 'api' in MILENA_RELAYS" in found[1][1]
    assert "--from and --to" in found[2][1]
    assert all(token not in printed for _, printed in found)
    broken = WorkerSettings.model_validate({"relays": json.dumps([relays[1]])})
    said = []
    assert not await check_relays(broken, None, said.append)
    assert "url and connect_timeout of relay 'api'" in said[-1]


def test_staging_safety_holds_for_the_mail_that_tries_a_relay() -> None:
    redirect = WorkerSettings.model_validate({"redirect_all_to": "test@staging.org"}).safety
    assert address_trial("me@x.org", None, redirect) == Envelope("me@x.org", "test@staging.org")
    only_y = WorkerSettings.model_validate({"allowed_recipient_domains": "y.org"}).safety
    with pytest.raises(ValueError, match="MILENA_ALLOWED_RECIPIENT_DOMAINS"):
        address_trial("me@x.org", None, only_y)


async def run_command(*arguments: str, **settings: str) -> tuple[int, str]:
    """The command as an operator types it, with no server but the relay; gives exit code and what was printed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MILENA_")} | settings
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.sender", "check", *arguments),
        env=env,
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()


async def test_the_command_ends_with_what_it_found() -> None:
    async with run_smtp() as server:
        relay = {"MILENA_SMTP_HOST": "127.0.0.1", "MILENA_SMTP_PORT": str(server.port)}
        login = {"MILENA_SMTP_USERNAME": "ann", "MILENA_SMTP_PASSWORD": PASSWORD}
        sent, printed = await run_command("--to", "me@x.org", "--from", "shop@example.com", **relay, **login)
        assert sent == 0, printed
        assert PASSWORD not in printed
        assert [(each.sender, each.recipients) for each in server.taken] == [("shop@example.com", ("me@x.org",))]
        server.script.answer = refuse("auth", "535 5.7.8 no").answer
        refused, told = await run_command("--no-send", **relay, **login)
    assert refused == 1
    assert "MILENA_SMTP_USERNAME and MILENA_SMTP_PASSWORD" in told
    assert PASSWORD not in told
    nobody, told = await run_command("--to", "nobody")
    assert nobody == 2
    assert "--to: not an email address" in told
