"""A batch of 10,000, followed over a WebSocket from nothing to its end while the scheduler is killed."""

import asyncio
from typing import Any

import httpx

from tests.chaos.judging import judge
from tests.chaos.rig import SENDER_ADDRESS, Rig
from tests.chaos.verdict import Verdict
from tests.support.following import Follower, write_lines
from tests.support.gateway import mint, poll
from tests.support.supervised import Supervised

_CONTENT = {"from": SENDER_ADDRESS, "subject": "Hello {{ name }}", "text": "Hello {{ name }}, spring is here."}


async def follow_a_batch(rig: Rig, *, mails: int = 10_000, patience_s: float = 600.0) -> Verdict:
    """API and worker are killed at a fifth and at half of it; the client comes back with the id it was told last."""
    caller = await mint(rig.stack.database_url, SENDER_ADDRESS)
    api = await rig.start_other("services.scheduler", "api")
    worker = await rig.start_other("services.scheduler", "worker")
    await rig.start_sender(0)
    follower = Follower(api.process.url, caller.headers)
    async with httpx.AsyncClient(base_url=api.process.url, headers=caller.headers, timeout=120) as client:
        batch = await _upload(client, mails)
        await _note_accepted(rig, client, batch)
        following = asyncio.create_task(follower.follow(batch["links"]["events"]))
        for percent in (20, 50):
            await _wait_percent(follower, percent, patience_s)
            await _kill(api, worker)
        await asyncio.wait_for(following, patience_s)
        items = {"state": "sent", "limit": 1}
        await poll(client, batch["links"]["items"], lambda page: page["data"], params=items)
    verdict = await judge(rig, f"a batch of {mails}, followed live; the scheduler's API and worker are killed twice")
    _judge_following(verdict, follower, mails)
    return verdict


async def _upload(client: httpx.AsyncClient, mails: int) -> Any:
    body = write_lines(
        {**_CONTENT, "to": [f"u{number}@example.org"], "variables": {"name": f"U{number}"}} for number in range(mails)
    )
    answer = await client.post("/v1/batches", content=body, headers={"Content-Type": "application/x-ndjson"})
    answer.raise_for_status()
    return answer.json()


async def _note_accepted(rig: Rig, client: httpx.AsyncClient, batch: Any) -> None:
    after: dict[str, str] = {}
    while True:
        answer = await client.get(batch["links"]["items"], params={"limit": 1000, **after})
        page = answer.raise_for_status().json()
        rig.accepted |= {item["id"]: (f"u{item['number'] - 1}@example.org",) for item in page["data"]}
        if "next" not in page:
            return
        after = {"after": page["next"]}


async def _wait_percent(follower: Follower, percent: float, timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        while not follower.messages or follower.percents[-1] < percent:
            await asyncio.sleep(0.05)


async def _kill(*processes: Supervised) -> None:
    for each in processes:
        each.kill()
    for each in processes:
        await each.wait_ready()


def _judge_following(verdict: Verdict, follower: Follower, mails: int) -> None:
    percents = follower.percents
    last = follower.messages[-1]["data"]["counts"]
    verdict.require_no_double()
    verdict.require(percents == sorted(percents), "the follower was told something older than before")
    verdict.require(percents[0] < 20 and percents[-1] == 100, f"followed from {percents[0]} to {percents[-1]} percent")
    verdict.require(follower.connections >= 3, f"{follower.connections} connections in spite of two restarts")
    verdict.require(last["sent"] == mails, f"the last message tells of {last['sent']} mails sent")
    ids = [message["id"] for message in follower.messages]
    verdict.require(len(set(ids)) == len(ids), "the follower was told something twice")
    verdict.notes.append(f"{len(ids)} messages over {follower.connections} connections, from {percents[0]} to 100 %")
