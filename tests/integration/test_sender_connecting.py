"""Opening a connection, and everything that may go wrong with it before the first mail."""

import asyncio
import base64
import ssl
from pathlib import Path

import pytest
import trustme

from services.sender.connecting import RelayAddress, RelayRefusesCredentials, RelayUnavailable, open_connection
from tests.support.smtp import Script, run_smtp

PASSWORD = "correct horse battery staple"


def offer_tls(directory: Path) -> tuple[Script, str]:
    """A relay with STARTTLS, and the file with its authority."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    script = Script(tls_context=context)
    path = directory / f"{id(script)}.pem"
    authority.cert_pem.write_to_path(str(path))
    return script, str(path)


REFUSALS = ("421 4.3.2 not now", "554 5.3.2 not you")
FAULTS = ("DROP", "HANG", "HTTP/1.1 400 Bad Request", "\x00\x01\x02", "250-" + "x" * 70_000, *REFUSALS)


async def fail_to_open(step: str, fault: str, directory: Path) -> str:
    """What is told where the relay answers `fault` at `step`."""
    script, ca_file = offer_tls(directory)
    steps = (step, "rset") if step == "ehlo" else (step,)  # a refused EHLO is asked again as HELO
    script.answer = lambda asked, argument: fault if asked in steps else None
    async with run_smtp(script) as server, asyncio.timeout(10):
        address = RelayAddress("127.0.0.1", server.port, "starttls", "ann", PASSWORD, ca_file=ca_file, timeout_s=1)
        with pytest.raises(RelayUnavailable) as caught:
            await open_connection(address)
    return str(caught.value)


async def test_a_fault_while_connecting_is_the_relays_and_is_told_in_time(tmp_path: Path) -> None:
    cases = [(step, fault) for step in ("connect", "ehlo", "starttls", "auth") for fault in FAULTS]
    told = await asyncio.gather(*(fail_to_open(step, fault, tmp_path) for step, fault in cases))
    for (step, fault), words in zip(cases, told, strict=True):
        assert PASSWORD not in words
        assert 10 < len(words) < 1000
        if fault in REFUSALS:
            assert fault in words, (step, fault, words)


async def test_what_a_relay_says_to_auth_is_told_and_no_secret_that_it_repeats() -> None:
    plain = base64.b64encode(f"\0ann\0{PASSWORD}".encode()).decode()
    script = Script(lambda step, argument: f"535 5.7.8 no such login: {plain}" if step == "auth" else None)
    async with run_smtp(script) as server:
        with pytest.raises(RelayRefusesCredentials, match=r"535 5\.7\.8 no such login: \*\*\*; check") as caught:
            await open_connection(RelayAddress("127.0.0.1", server.port, username="ann", password=PASSWORD))
    assert plain not in str(caught.value)


async def test_a_relay_that_knows_only_helo_is_spoken_to_in_lock_step() -> None:
    script = Script(lambda step, argument: "500 5.5.1 what?" if step == "ehlo" else None)
    async with run_smtp(script) as server:
        opened = await open_connection(RelayAddress("127.0.0.1", server.port))
        assert not opened.abilities.pipelining
        opened.transport.abort()
        await asyncio.sleep(0.05)
        assert [each.split()[0] for each in server.commands] == ["EHLO", "HELO"]
