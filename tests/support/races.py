"""Wishes to cancel delayed mail at the moment it is due, over HTTP and on the topic, and what became of it."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import orjson
from aiokafka import AIOKafkaProducer

from tests.support.records import Seen
from tests.support.stack import Stack

_EARLY = 10  # every so many's wish lies on the topic before the mail
_OVER_HTTP, _ON_TOPIC = (-0.1, 0.15), (-0.3, 0.15)  # when a wish is uttered, in seconds from when its mail is due


@dataclass
class Races:
    """`early`: mails whose wish was there first; `confirmed`: those that the API said it has cancelled, by a 200."""

    ids: list[str] = field(default_factory=list)
    early: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)

    def find_faults(self, left: Counter[str], cancelled: Counter[str]) -> list[str]:
        """What does not hold: each mail left once or was cancelled, never both, never neither.

        `left` counts, by mail, what the outside has of it; `cancelled` the events that say it was cancelled, each once.
        """
        faults = [
            f"{each} left {left[each]} times and was cancelled" for each in self.ids if left[each] and cancelled[each]
        ]
        faults += [f"{each} neither left nor was cancelled" for each in self.ids if not left[each] | cancelled[each]]
        faults += [f"{each} left, though its wish was there before it" for each in self.early if left[each]]
        return faults + [f"{each} left, though the API had cancelled it" for each in self.confirmed if left[each]]


async def race(
    stack: Stack, api: httpx.AsyncClient, mail: dict[str, Any], count: int, *, lead_s: float, over_s: float, seed: int
) -> Races:
    """Publish so many mails, due over `over_s` seconds, `lead_s` from now, each with a wish: HTTP, topic or both.

    `api` is the scheduler's, with a key of the mails' account.
    """
    races, dice, first = Races(), random.Random(seed), time.time() + lead_s
    producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers, acks="all")
    await producer.start()

    async def publish(email_id: str, **data: Any) -> None:
        value = orjson.dumps({"id": email_id, **data})
        await producer.send_and_wait(stack.topics.requested, value, key=email_id.encode())

    async def wish(email_id: str, due: float, number: int) -> None:
        if number % 3:
            await asyncio.sleep(due + dice.uniform(*_ON_TOPIC) - time.time())
            await publish(email_id, cancel=True)
        if number % 3 != 1:
            await asyncio.sleep(due + dice.uniform(*_OVER_HTTP) - time.time())
            answer = await api.post(f"/v1/scheduled/{email_id}/cancel")
            assert answer.status_code in (200, 409), answer.text
            if answer.status_code == 200:
                races.confirmed.add(email_id)

    async def live(number: int) -> None:
        email_id, due = str(uuid4()), first + over_s * number / count
        races.ids.append(email_id)
        if number % _EARLY == 0:
            races.early.add(email_id)
            await publish(email_id, cancel=True)
        await publish(email_id, **mail, send_at=datetime.fromtimestamp(due, UTC).isoformat())
        if number % _EARLY:
            await wish(email_id, due, number)

    try:
        await asyncio.gather(*(live(number) for number in range(count)))
    finally:
        await producer.stop()
    return races


def count_cancelled(seen: list[Seen]) -> Counter[str]:
    """By mail, how many different events say that it was cancelled."""
    told = {(str(each.key), each.headers["ce_id"]) for each in seen if each.data.get("reason") == "cancelled"}
    return Counter(email_id for email_id, _ in told)
