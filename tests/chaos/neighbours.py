"""Everybody but the sender is killed, terminated and frozen under load: gateway, scheduler, callback worker."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from aiohttp import web
from aiokafka import AIOKafkaConsumer

from tests.chaos.judging import judge, reconcile
from tests.chaos.outages import frozen
from tests.chaos.posting import Posting
from tests.chaos.rig import Rig, wait_until
from tests.chaos.verdict import Verdict
from tests.support.gateway import mint
from tests.support.stack import Stack
from tests.support.supervised import Supervised

_DELAY_S = 4.0
_WEBHOOKS_S = 90.0
_OTHERS = (("gateway", "api"), ("gateway", "worker"), ("scheduler", "worker"), ("callback", "worker"))


@dataclass
class Hook:
    """An application's endpoint. `heard`: how often each webhook came, by its id; `mails`: the ids of those mails."""

    url: str = ""
    heard: Counter[str] = field(default_factory=Counter)
    mails: set[str] = field(default_factory=set)

    async def take(self, request: web.Request) -> web.Response:
        """One webhook."""
        body = orjson.loads(await request.read())
        self.heard[request.headers["webhook-id"]] += 1
        self.mails.add(_find_id(body))
        return web.Response(status=204)


def _find_id(body: dict[str, Any]) -> str:
    return str(body.get("data", body).get("id"))


async def hurt_everybody_else(
    rig: Rig,
    *,
    rate: float = 12.0,
    frozen_s: float = 13.0,
    calm_s: float = 2.0,
    patience_s: float = 180.0,
    reconciled: bool = True,
) -> Verdict:
    """One after another gets SIGKILL, SIGTERM, and SIGSTOP for longer than its consumer group waits for it.

    Meanwhile mails are posted, every third for a little later (the scheduler's), each with a callback. The sender is
    left alone: nothing may be doubled or unknown, and every mail's webhook comes at least once.
    """
    await rig.start_sender(0)
    others = {f"{name} {part}": await rig.start_other(f"services.{name}", part) for name, part in _OTHERS}
    api = others["gateway api"]
    async with _listen() as hook:
        caller = await mint(rig.stack.database_url, "*@example.com")
        posting = Posting(rig, api.process.url, caller, rate, extra=lambda number: _dress(number, hook.url))
        stop = asyncio.Event()
        callers = asyncio.create_task(posting.run(stop))
        for other in others.values():
            await _hurt(rig, other, frozen_s, calm_s, exits_with=-signal.SIGTERM if other is api else 0)
        stop.set()
        await callers
        rig.maybe |= await _find_unheard(rig.stack, posting.unheard)
        finished = await rig.wait_finished(patience_s)
        told = await _wait_webhooks(rig, hook)
        verdict = await judge(rig, "gateway, scheduler and callback: each is killed, terminated and frozen under load")
    _judge_answers(verdict, posting)
    _judge_hook(verdict, hook, told)
    verdict.require(finished, f"not finished {patience_s:.0f} s after the last fault")
    verdict.require_no_double()
    _judge_restarts(verdict, others)
    if reconciled:
        await reconcile(rig, verdict)
    return verdict


def _dress(number: int, url: str) -> dict[str, Any]:
    later = datetime.now(UTC) + timedelta(seconds=_DELAY_S)
    return {"callback": url} | ({"send_at": later.isoformat()} if number % 3 == 0 else {})


async def _hurt(rig: Rig, other: Supervised, frozen_s: float, calm_s: float, *, exits_with: int) -> None:
    # uvicorn, once it has shut down in order, ends by the very signal that it was sent.
    await asyncio.sleep(calm_s)
    other.kill()
    await other.wait_ready()
    await asyncio.sleep(calm_s)
    rig.exits_s.append(await other.terminate(expected=exits_with))
    other.start_again()
    await other.wait_ready()
    await asyncio.sleep(calm_s)
    async with frozen(other.process.pid):
        await asyncio.sleep(frozen_s)
    await other.wait_ready()


async def _find_unheard(stack: Stack, addresses: set[str]) -> dict[str, tuple[str, ...]]:
    """Of the mails whose callers heard nothing those that Kafka holds, with their recipients."""
    topic = stack.topics.requested
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=stack.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    found: dict[str, tuple[str, ...]] = {}
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found |= {
                    each: to for each, to in map(_read, (record.value for record in records)) if addresses & {*to}
                }
    finally:
        await consumer.stop()
    return found


def _read(value: bytes) -> tuple[str, tuple[str, ...]]:
    mail = orjson.loads(value)
    return mail["id"], tuple(mail["to"])


async def _wait_webhooks(rig: Rig, hook: Hook) -> bool:
    async def all_heard() -> bool:
        return rig.accepted.keys() <= hook.mails

    try:
        await wait_until(all_heard, _WEBHOOKS_S, "webhooks", every_s=0.25)
    except AssertionError:
        return False
    return True


def _judge_answers(verdict: Verdict, posting: Posting) -> None:
    statuses = Counter(each.status for each in posting.answers)
    told = ", ".join(f"{status or 'none'}: {times}" for status, times in sorted(statuses.items()))
    slowest = max(each.seconds for each in posting.answers if each.status)
    verdict.notes.append(f"answers to POSTs: {told}; slowest {slowest:.1f} s; {len(posting.unheard)} heard nothing")
    verdict.require(set(statuses) <= {0, 202, 503}, f"answers to POSTs: {told}")


def _judge_hook(verdict: Verdict, hook: Hook, told: bool) -> None:
    again = sum(hook.heard.values()) - len(hook.heard)
    verdict.notes.append(f"{len(hook.heard)} webhooks, {again} of them came again under the same id")
    verdict.require(
        told, f"webhooks of {verdict.mails - len(hook.mails)} mails did not come within {_WEBHOOKS_S:.0f} s"
    )


def _judge_restarts(verdict: Verdict, others: dict[str, Supervised]) -> None:
    """Each is started again once after its SIGKILL; one that its group has given up may end itself after the freeze."""
    for name, other in others.items():
        verdict.kills += 1
        codes = [code for code in other.exits if code != -9]
        if codes:
            verdict.notes.append(f"{name} ended by itself after its freeze, exit {codes}")
        verdict.require(len(codes) <= 1, f"{name} ended by itself {len(codes)} times: {codes}")


@asynccontextmanager
async def _listen() -> AsyncIterator[Hook]:
    hook = Hook()
    app = web.Application()
    app.router.add_post("/hook", hook.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        hook.url = f"{site.name}/hook"
        yield hook
    finally:
        await runner.cleanup()
