"""Real connections to a scripted relay: TLS, AUTH, a limit on connections, a relay that goes away and comes back."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import trustme
from structlog.testing import capture_logs

from services.sender.breaker import BreakerPolicy
from services.sender.classify import Reply
from services.sender.connecting import (
    OpenConnection,
    RelayAddress,
    RelayRefusesCredentials,
    RelayUnavailable,
    open_connection,
)
from services.sender.conversation import Timeouts
from services.sender.parcel import Ending, Parcel
from services.sender.relay import Relay
from tests.support.events import publish_json, read_results
from tests.support.services import ServiceRunner
from tests.support.smtp import Answer, Script, SmtpServer, run_smtp
from tests.support.stack import Stack

PASSWORD = "correct horse battery staple"
Connect = Callable[[RelayAddress], Awaitable[OpenConnection]]
ENCODED = base64.b64encode(f"\0ann\0{PASSWORD}".encode()).decode()


class Sending:
    """A relay's pool and what came of the parcels given to it."""

    def __init__(
        self,
        address: RelayAddress,
        connections: int = 4,
        breaker: BreakerPolicy | None = None,
        connect: Connect = open_connection,
    ) -> None:
        self.done: list[Parcel] = []
        self.returned: list[Parcel] = []
        self.ready = 0
        self.relay = Relay(
            address,
            connect,
            connections=connections,
            timeouts=Timeouts(),
            on_returned=self.returned.extend,
            on_ready=self._on_ready,
            breaker=breaker or BreakerPolicy(retry_s=0.02, first_probe_s=0.1, last_probe_s=0.2, operators_probe_s=0.2),
        )

    def _on_ready(self) -> None:
        self.ready += 1

    def submit(self, count: int) -> None:
        self.relay.submit(
            Parcel(b"a@x.org", [b"b@x.org"], b"Message-ID: <%d@x>\r\n\r\nx\r\n" % n, lambda: True, self.done.append)
            for n in range(count)
        )

    async def wait_done(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.done) < count:
                await asyncio.sleep(0.01)
        assert all(each.ending is Ending.ANSWERED and each.content_answered for each in self.done)

    async def wait_broken(self) -> None:
        async with asyncio.timeout(10):
            while self.relay.available:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def send_to(
    address: RelayAddress, connections: int = 4, connect: Connect = open_connection
) -> AsyncIterator[Sending]:
    sending = Sending(address, connections, connect=connect)
    await sending.relay.start()
    try:
        yield sending
    finally:
        await sending.relay.stop()
        await asyncio.sleep(0.05)


def address_of(server: SmtpServer, **options: str | bool) -> RelayAddress:
    return replace(RelayAddress("127.0.0.1", server.port, timeout_s=5), **options)  # type: ignore[arg-type]


def tls_script(names: tuple[str, ...] = ("127.0.0.1",), *, implicit: bool = False) -> tuple[Script, trustme.CA]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return Script(tls_context=context, implicit_tls=implicit), authority


def write_ca(authority: trustme.CA, directory: Path) -> str:
    path = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


# --- TLS ---


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_mail_goes_over_a_verified_connection(tls: str, tmp_path: Path) -> None:
    script, authority = tls_script(implicit=tls == "tls")
    async with run_smtp(script) as server:
        address = address_of(server, tls=tls, ca_file=write_ca(authority, tmp_path))
        async with send_to(address) as sending:
            sending.submit(20)
            await sending.wait_done(20)
        assert len(server.taken) == 20
        assert server.encrypted == server.connections > 0


@pytest.mark.parametrize("tls", ["starttls", "tls"])
@pytest.mark.parametrize("fault", ["authority", "name"])
async def test_a_wrong_certificate_is_refused_and_named(tls: str, fault: str, tmp_path: Path) -> None:
    script, authority = tls_script(("relay.example.org",) if fault == "name" else ("127.0.0.1",), implicit=tls == "tls")
    ca_file = write_ca(authority if fault == "name" else trustme.CA(), tmp_path)
    async with run_smtp(script) as server:
        with pytest.raises(RelayUnavailable, match=r"certificate refused: .*(127\.0\.0\.1|issuer)"):
            await open_connection(address_of(server, tls=tls, ca_file=ca_file))
        with pytest.raises(RelayUnavailable, match="certificate refused"):
            await open_connection(address_of(server, tls=tls))
        opened = await open_connection(address_of(server, tls=tls, verify=False))
        opened.transport.abort()
        await asyncio.sleep(0.05)


async def test_starttls_is_demanded() -> None:
    async with run_smtp() as server:
        with pytest.raises(RelayUnavailable, match="STARTTLS"):
            await open_connection(address_of(server, tls="starttls", username="ann", password=PASSWORD))
        assert not any(each.startswith("AUTH") for each in server.commands)


# --- AUTH ---


async def test_the_right_password_opens() -> None:
    async with run_smtp() as server, send_to(address_of(server, username="ann", password=PASSWORD)) as sending:
        sending.submit(1)
        await sending.wait_done(1)
        assert f"AUTH PLAIN {ENCODED}" in server.commands


async def test_a_wrong_password_opens_the_breaker_at_once() -> None:
    script = Script(lambda step, argument: "535 5.7.8 authentication failed" if step == "auth" else None)
    async with run_smtp(script) as server:
        address = address_of(server, username="ann", password=PASSWORD)
        with capture_logs() as logs:
            async with send_to(address, connections=1) as sending:
                sending.submit(3)
                await sending.wait_broken()
                assert server.connections == 1
                assert len(sending.returned) == 3
                told = sending.relay.describe_fault() or ""
                assert "535" in told
                assert "MILENA_SMTP_USERNAME" in told
                assert "MILENA_SMTP_PASSWORD" in told
                script.answer = lambda step, argument: None
                async with asyncio.timeout(5):
                    while not sending.ready:
                        await asyncio.sleep(0.01)
                sending.submit(3)
                await sending.wait_done(3)
    assert logs
    assert PASSWORD not in repr([logs, told, address])
    assert ENCODED not in repr([logs, told])


async def test_auth_put_off_is_no_fault_of_the_password() -> None:
    script = Script(lambda step, argument: "454 4.7.0 temporary failure" if step == "auth" else None)
    async with run_smtp(script) as server:
        with pytest.raises(RelayUnavailable) as caught:
            await open_connection(address_of(server, username="ann", password=PASSWORD))
        assert not isinstance(caught.value, RelayRefusesCredentials)
        assert "454" in str(caught.value)


async def test_a_relay_without_auth_is_named() -> None:
    async with run_smtp(Script(extensions=("PIPELINING",))) as server:
        with pytest.raises(RelayUnavailable, match="AUTH"):
            await open_connection(address_of(server, username="ann", password=PASSWORD))


# --- limits and outages ---


async def test_a_limit_on_connections_does_not_stop_the_mail() -> None:
    admitted: list[str] = []

    def answer(step: str, argument: str) -> Answer:
        if step == "connect" and len(admitted) >= 2:
            return "421 4.7.0 too many connections"
        if step == "connect":
            admitted.append(step)
        return None

    async with run_smtp(Script(answer, dot_delay_s=0.01)) as server:
        async with send_to(address_of(server), connections=6) as sending:
            for _ in range(5):
                sending.submit(20)
                await asyncio.sleep(0.03)
                assert sending.relay.available
            await sending.wait_done(100)
            assert sending.returned == []
            assert sending.relay.describe_fault() is None
        assert server.connections > 2
        assert len(server.taken) == 100


async def test_refusals_that_come_before_the_first_success_leave_the_breaker_closed() -> None:
    places = 2

    async def connect(address: RelayAddress) -> OpenConnection:
        nonlocal places
        places -= 1
        if places < 0:
            raise RelayUnavailable("the relay answered 421")
        await asyncio.sleep(0.1)
        return await open_connection(address)

    async with run_smtp() as server, send_to(address_of(server), connections=8, connect=connect) as sending:
        sending.submit(20)
        await asyncio.sleep(0.05)
        sending.submit(20)
        assert sending.relay.available
        await sending.wait_done(40)
        assert sending.returned == []
        assert server.connections == 2


async def test_a_relay_that_goes_away_gets_its_mail_when_it_is_back() -> None:
    async with run_smtp() as server, send_to(address_of(server)) as sending:
        sending.submit(5)
        await sending.wait_done(5)
        port = server.port
        relay = sending.relay
        server_gone = asyncio.Event()

        async def come_back() -> int:
            await server_gone.wait()
            async with run_smtp(port=port) as second:
                while not sending.ready or not relay.available:
                    await asyncio.sleep(0.01)
                sending.relay.submit(sending.returned)
                sending.returned.clear()
                await sending.wait_done(15)
                return len(second.taken)

        task = asyncio.create_task(come_back())
        await server.stop()
        sending.ready = 0
        sending.submit(10)
        await sending.wait_broken()
        assert len(sending.returned) == 10
        server_gone.set()
        assert await task == 10


async def test_many_connects_failing_at_once_do_not_make_the_first_probe_late() -> None:
    async with run_smtp() as server:
        port = server.port
    sending = Sending(
        RelayAddress("127.0.0.1", port), connections=30, breaker=BreakerPolicy(first_probe_s=0.1, last_probe_s=60)
    )
    sending.submit(30)
    await sending.wait_broken()
    async with run_smtp(port=port), asyncio.timeout(3):
        while not sending.relay.available:
            await asyncio.sleep(0.01)
        await sending.relay.stop()


@asynccontextmanager
async def wait_for_goodbye(connections: int) -> AsyncIterator[tuple[SmtpServer, Sending]]:
    """One of the connections has said QUIT, and gets no answer."""
    script = Script(lambda step, argument: "HANG" if step == "quit" else None)
    async with run_smtp(script) as server, send_to(address_of(server), connections) as sending:
        sending.submit(1)
        await sending.wait_done(1)
        (idle,) = sending.relay.pool.idle
        idle.quit()
        yield server, sending


async def test_a_mail_that_comes_behind_a_quit_takes_another_connection() -> None:
    async with wait_for_goodbye(connections=2) as (server, sending):
        sending.submit(1)
        await sending.wait_done(2)
        assert server.connections == 2
        assert sending.done[1].replies == [Reply(250, "2.0.0 queued as SCRIPTED")]


@pytest.mark.parametrize("extensions", [("PIPELINING",), ()])
async def test_a_stop_says_quit_where_only_the_answer_to_rset_is_awaited(extensions: tuple[str, ...]) -> None:
    script = Script(
        lambda step, argument: "550 5.1.1 no" if step == "mail" else None,
        lambda step, argument: 0.4 if step == "rset" else 0.0,
        extensions,
    )
    async with run_smtp(script) as server, send_to(address_of(server), connections=1) as sending:
        sending.submit(1)
        async with asyncio.timeout(5):
            while not sending.done:
                await asyncio.sleep(0.01)
        await sending.relay.stop()
        await asyncio.sleep(0.05)
        assert server.commands[-2:] == ["RSET", "QUIT"]
        assert sending.relay.pool.open == {}


async def test_a_stop_cuts_off_what_a_mail_is_still_on() -> None:
    async with (
        run_smtp(Script(lambda step, argument: "HANG" if step == "dot" else None)) as server,
        send_to(address_of(server), connections=1) as sending,
    ):
        sending.submit(1)
        await server.wait_taken(1)
        await sending.relay.stop()
        assert [each.ending for each in sending.done] == [Ending.UNANSWERED]
        assert "QUIT" not in server.commands


async def test_a_stop_says_quit_once() -> None:
    async with wait_for_goodbye(connections=1) as (server, sending):
        await sending.relay.stop()
        assert server.commands.count("QUIT") == 1
        assert sending.relay.pool.open == {}


# --- the whole sender, on its own event loop ---

MAIL = {"from": "no-reply@example.com", "to": ["ann@example.org"], "subject": "Hello", "text": "Hi"}


async def test_the_sender_speaks_starttls_and_auth(services: ServiceRunner, stack: Stack, tmp_path: Path) -> None:
    script, authority = tls_script()
    async with run_smtp(script) as server:
        env = {
            "MILENA_SMTP_HOST": "127.0.0.1",
            "MILENA_SMTP_PORT": str(server.port),
            "MILENA_SMTP_TLS": "starttls",
            "MILENA_SMTP_CA_FILE": write_ca(authority, tmp_path),
            "MILENA_SMTP_USERNAME": "ann",
            "MILENA_SMTP_PASSWORD": PASSWORD,
        }
        process = services.start("services.sender", "worker", env={**stack.env(), **env})
        await publish_json(stack, *(MAIL | {"id": str(uuid4())} for _ in range(20)))
        results = await read_results(stack, count=20)
        assert {each.headers["ce_type"] for each in results} == {"email.sent"}
        assert server.encrypted == server.connections
        assert PASSWORD not in process.read_log()


async def test_the_sender_with_a_wrong_password_is_not_ready_and_says_which_settings(
    services: ServiceRunner, stack: Stack
) -> None:
    def answer(step: str, argument: str) -> Answer:
        return "535 5.7.8 authentication failed" if step == "auth" else None

    async with run_smtp(Script(answer)) as server:
        env = {"MILENA_SMTP_PORT": str(server.port), "MILENA_SMTP_USERNAME": "ann", "MILENA_SMTP_PASSWORD": PASSWORD}
        process = services.start("services.sender", "worker", env={**stack.env(), **env, "MILENA_LOG_LEVEL": "DEBUG"})
        await publish_json(stack, MAIL)
        async with asyncio.timeout(20):
            while "relay unavailable" not in process.read_log():
                await asyncio.sleep(0.1)
        async with httpx.AsyncClient() as client:
            ready = await client.get(f"{process.url}/readyz")
        assert ready.status_code == 503
        assert "MILENA_SMTP_PASSWORD" in ready.text
        assert PASSWORD not in ready.text + process.read_log()
        assert ENCODED not in ready.text + process.read_log()
        assert server.taken == []
