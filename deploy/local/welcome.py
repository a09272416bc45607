"""Send a mail through the public API and show what becomes of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

import aiohttp

from deploy.local.errors import StackError
from deploy.local.readiness import open_session
from deploy.local.record import StackRecord

_FINAL = {"sent", "partially_sent", "failed", "cancelled", "expired", "unknown"}
_POLL_S = 0.1


async def send_and_follow(record: StackRecord, to: str, say: Callable[[str], None], *, timeout_s: float = 30) -> str:
    """Send one mail through ``POST /email/``, print its timeline as it happens, and give its last status.

    Raises StackError when the API refuses the mail or does not answer, TimeoutError when the mail is still on its
    way after ``timeout_s``.
    """
    try:
        return await _send_and_follow(record, to, say, timeout_s)
    except aiohttp.ClientError as exc:
        raise StackError(f"the API at {record.base_url} did not answer: {exc}") from exc


async def _send_and_follow(record: StackRecord, to: str, say: Callable[[str], None], timeout_s: float) -> str:
    async with open_session(10) as session:
        began = time.monotonic()
        email_id = await _send(session, record, to)
        say(f"  {0:6.2f} s  accepted as {email_id}")
        async with asyncio.timeout(timeout_s):
            async for event in _follow(session, record, email_id):
                say(f"  {time.monotonic() - began:6.2f} s  {describe_event(event)}")
        return await _read_status(session, record, email_id)


def describe_event(event: dict[str, Any]) -> str:
    """Give one line for one event of a timeline."""
    words = [str(event.get("type", "event"))]
    words += [str(event[name]) for name in ("reason", "response", "relay", "detail") if event.get(name)]
    return "  ".join(words)


def describe_problem(problem: Any) -> str:
    """Give the words of a problem document: of each field's error where there are some."""
    if not isinstance(problem, dict):
        return str(problem)
    errors = [f"{str(error['pointer']).strip('/')} {error['detail']}" for error in problem.get("errors", [])]
    return "; ".join(errors) or str(problem.get("detail", problem))


async def _send(session: aiohttp.ClientSession, record: StackRecord, to: str) -> str:
    moment = datetime.now().strftime("%H:%M:%S")
    body = {
        "from": record.from_address,
        "to": to,
        "subject": f"Hello from Milena, {moment}",
        "text_content": "This mail went all the way: HTTP, Kafka, the sender, SMTP.\n",
        "html_content": "<p>This mail went <strong>all the way</strong>: HTTP, Kafka, the sender, SMTP.</p>",
        "token": record.api_key,
    }
    async with session.post(f"{record.base_url}/email/", json=body) as answer:
        content = await answer.json(content_type=None)
        if answer.status != 202:
            raise StackError(f"the API refused the mail ({answer.status}): {describe_problem(content)}")
        return str(content["id"])


async def _follow(session: aiohttp.ClientSession, record: StackRecord, email_id: str) -> AsyncIterator[dict[str, Any]]:
    """Give each event of a mail once, as it comes, until the mail's status is final."""
    seen = 0
    while True:
        status = await _read_status(session, record, email_id)
        timeline = await _read(session, record, f"/v1/emails/{email_id}/events")
        events = timeline.get("events", timeline.get("data", []))
        for event in events[seen:]:
            yield event
        seen = len(events)
        if status in _FINAL:
            return
        await asyncio.sleep(_POLL_S)


async def _read_status(session: aiohttp.ClientSession, record: StackRecord, email_id: str) -> str:
    return str((await _read(session, record, f"/v1/emails/{email_id}")).get("status", "queued"))


async def _read(session: aiohttp.ClientSession, record: StackRecord, path: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {record.api_key}"}
    async with session.get(f"{record.base_url}{path}", headers=headers) as answer:
        if answer.status not in (200, 404):  # 404: the read model has not seen it yet
            raise StackError(f"GET {path} answered {answer.status}: {await answer.text()}")
        content: dict[str, Any] = await answer.json(content_type=None)
        return content if answer.status == 200 else {}
