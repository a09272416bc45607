"""The whole sender against a real Postfix: STARTTLS, AUTH, refusals of its own, and not one complaint in its log."""

import asyncio
import re
import time
from collections import Counter
from typing import Any

import pytest

from shared.events import new_email_id
from tests.support.events import Result, publish_json, read_results
from tests.support.postfix import NoPostfix, Postfix, run_postfix
from tests.support.services import ServiceRunner
from tests.support.stack import Stack

USERNAME, PASSWORD = "ann", "correct horse battery staple"
REFUSED, LATER = "refused@example.org", "later@example.org"
ACCESS = {REFUSED: "550 5.1.1 no such user", LATER: "450 4.2.0 mailbox busy"}
KINDS: list[dict[str, Any]] = [  # of mails; {n} is the mail's number
    {"to": ["user{n}@example.org"]},
    {"to": ["user{n}@example.org", "other{n}@example.org"], "cc": ["third{n}@example.org"]},
    {"to": ["user{n}@example.org", REFUSED]},
    {"to": [LATER, "user{n}@example.org", REFUSED]},
    {"to": [REFUSED]},
    {"to": [LATER]},
    {"to": ["user{n}@example.org"], "reply_to": ["jörg@example.org"], "subject": "Grüße"},
    {"to": ["user{n}@example.org"], "text": ".\n..\n.leading dots\n" * 40, "html": "<b>ü</b>"},
    {"to": ["user{n}@example.org"], "attachments": [{"filename": "ü.bin", "content": "AAEC" * 5_000}]},
    {"to": ["user{n}@example.org"], "text": "x" * 5_000},
]
COMPLAINT = re.compile(
    r"improper|pipelining|lost connection|non-SMTP|syntax|too many|timeout|error:|warning:|fatal:|panic:|"
    r"SSL_accept|Bad |5\d\d 5\.5\.(?!1 Error: no valid recipients)",
    re.IGNORECASE,
)


def make_mails(count: int) -> list[dict[str, Any]]:
    simple = {"from": "no-reply@example.com", "subject": "Hello", "text": "Hi\n" * 100, "html": "<p>Hi</p>\n" * 100}
    mails = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        to = [address.format(n=number) for address in kind["to"]]
        mails.append(simple | kind | {"id": str(new_email_id()), "to": to})
    return mails


def expect(mail: dict[str, Any]) -> dict[str, str]:
    """The state of each recipient."""
    states = {REFUSED: "failed", LATER: "deferred"}
    return {address: states.get(address, "sent") for address in [*mail["to"], *mail.get("cc", [])]}


def find_states(events: list[Result]) -> dict[str, str]:
    states: dict[str, str] = {}
    for event in events:
        data = event.data
        if event.headers["ce_type"] == "email.sent":
            states |= dict.fromkeys(data["recipients"], "sent")
        else:
            codes = {"failed": (550, "5.1.1"), "deferred": (450, "4.2.0")}
            for each in data["recipients"]:
                state = "failed" if data["final"] else "deferred"
                known = (each["smtp_code"], each["enhanced_code"]) == codes[state]
                states[each["address"]] = state if known else str(each)
    return states


async def wait_for_log(postfix: Postfix, mails: int) -> list[str]:
    """Its log once it has thrown all mails away, and every connection has ended."""
    async with asyncio.timeout(60):
        while True:
            log = postfix.read_log()
            removed = sum(line.endswith(": removed") for line in log)
            ended = sum(": disconnect from" in line for line in log) == sum(": connect from" in line for line in log)
            if removed >= mails and ended:
                return log
            await asyncio.sleep(0.1)


async def send_through_postfix(services: ServiceRunner, stack: Stack, postfix: Postfix, count: int) -> float:
    """Send, judge by Postfix's log and the events, and give the mails per second."""
    env = {
        "MILENA_SMTP_HOST": "127.0.0.1",
        "MILENA_SMTP_PORT": str(postfix.port),
        "MILENA_SMTP_TLS": "starttls",
        "MILENA_SMTP_CA_FILE": str(postfix.ca_file),
        "MILENA_SMTP_USERNAME": USERNAME,
        "MILENA_SMTP_PASSWORD": PASSWORD,
        "MILENA_RETRY_DELAYS": "3600",
    }
    process = services.start("services.sender", "worker", env={**stack.env(), **env})
    await process.wait_ready()
    mails = make_mails(count)
    began = time.monotonic()
    await publish_json(stack, *mails)
    groups = sum(len(set(expect(mail).values())) for mail in mails)
    results = await read_results(stack, count=groups, timeout_s=120, settle_s=0.2)
    seconds = time.monotonic() - began
    process.terminate()
    assert await process.wait_exit(20) == 0
    by_id: dict[str, list[Result]] = {}
    for each in results:
        by_id.setdefault(each.data["id"], []).append(each)
    for mail in mails:
        assert find_states(by_id[mail["id"]]) == expect(mail)
    judge_log(await wait_for_log(postfix, sum("sent" in expect(mail).values() for mail in mails)), mails)
    return count / seconds


def judge_log(log: list[str], mails: list[dict[str, Any]]) -> None:
    complaints = [line for line in log if COMPLAINT.search(line) and ": reject: RCPT" not in line]
    assert not complaints, complaints[:10]
    states = Counter(state for mail in mails for state in expect(mail).values())
    assert sum(" status=sent " in line for line in log) == states["sent"]
    assert sum(f"to=<{REFUSED}>" in line and " 550 5.1.1 " in line for line in log) == states["failed"]
    assert sum(f"to=<{LATER}>" in line and " 450 4.2.0 " in line for line in log) == states["deferred"]
    accepted = [line for line in log if " sasl_username=ann@" in line]
    assert len(accepted) == sum(line.endswith(": removed") for line in log)


async def be_improper(postfix: Postfix) -> None:
    """Pipeline where it is not allowed, so that the log holds a complaint."""
    reader, writer = await asyncio.open_connection("127.0.0.1", postfix.port)
    await reader.readline()
    writer.write(b"HELO x\r\nNOOP\r\nNOOP\r\nQUIT\r\n")
    while await reader.readline():
        pass
    writer.close()


async def test_a_real_postfix_has_nothing_to_complain_of(services: ServiceRunner, stack: Stack) -> None:
    try:
        with run_postfix(USERNAME, PASSWORD, ACCESS) as postfix:
            await send_through_postfix(services, stack, postfix, 200)
            await be_improper(postfix)
            with pytest.raises(AssertionError, match="improper command pipelining"):
                judge_log(await wait_for_log(postfix, 0), [])
    except NoPostfix as exc:
        pytest.skip(f"no real Postfix here: {exc}")
