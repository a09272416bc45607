"""Lists and counts over a full read model, over HTTP: how long a page takes, and by which index it is read."""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx

from services.gateway.list_store import STATEMENTS
from services.gateway.lists import ListFilter
from services.gateway.tally_store import READ
from shared.database import Database
from tests.bench.figures import Figures, NotMeasured
from tests.bench.listed_mails import DAYS, fill_read_model, list_days
from tests.bench.plans import INDEXES, find_faults
from tests.bench.senders import take_share
from tests.bench.targets import take_percentile
from tests.support.gateway import mint
from tests.support.servers import RealServers

_FILL_S = 850
_WARM_UP = 12  # each connection of the API plans a statement at its first use
_PAGE = 50
_DRAW: dict[ListFilter, Callable[[random.Random], str]] = {
    ListFilter.STATUS: lambda chance: chance.choice(["sent", "failed", "unknown", "queued"]),
    ListFilter.RECIPIENT: lambda chance: f"user{int(300_000 * chance.random() ** 2)}@example.org",
    ListFilter.TAG: lambda chance: chance.choice(["tag-0", "tag-29", "rare", "never-used"]),
    ListFilter.MAILING: lambda chance: f"mailing-{chance.choice(list_days())}",
    ListFilter.BATCH: lambda chance: chance.choice([f"batch-{chance.choice(list_days())}", "batch-rare"]),
    ListFilter.KEY: lambda chance: f"key_default_{chance.choice([0, 1, 2, 9])}",
}

_COUNTS = "stats"  # measured beside the lists, and no list


async def measure_lists(servers: RealServers, mails: int, requests: int) -> Figures:
    """`requests` of each kind, one after the other. Raises NotMeasured where a plan is not what it must be."""
    with take_share(servers) as share:
        database = Database(share.stack.database_url, statement_timeout_s=_FILL_S)
        await fill_read_model(database, mails)
        await database.close()
        await _check_plans(share.stack.database_url)
        caller = await mint(share.stack.database_url)
        api = share.runner.start("services.gateway", "api")
        await api.wait_ready(60)
        async with httpx.AsyncClient(base_url=api.url, headers=caller.headers, timeout=60) as client:
            took = {kind.value if kind else "all": await _read_lists(client, kind, requests) for kind in STATEMENTS}
            took[_COUNTS] = await _read_stats(client, requests)
    p99_ms = {name: take_percentile(each, 99) for name, each in took.items()}
    p50_ms = {name: take_percentile(each, 50) for name, each in took.items()}
    return {
        "mails": mails,
        "p50_ms": max(p50_ms.values()),
        "p99_ms": max(value for name, value in p99_ms.items() if name != _COUNTS),
        **{f"after_{name}_p50_ms": value for name, value in p50_ms.items()},
        **{f"after_{name}_p99_ms": value for name, value in p99_ms.items()},
    }


async def _check_plans(database_url: str) -> None:
    chance, now = random.Random(0), datetime.now(UTC)
    for kind, statement in STATEMENTS.items():
        arguments = ["default", now - timedelta(days=2 * DAYS), now, UUID(int=0), _PAGE + 1]
        arguments += [_DRAW[kind](chance)] if kind else []
        if faults := await find_faults(database_url, statement, arguments, INDEXES[kind]):
            raise NotMeasured(f"{kind or 'all'}: {'; '.join(faults)}")
    counted = ("default", "tag-0", "hour", now - timedelta(days=DAYS), "day", now)
    if faults := await find_faults(database_url, READ, counted, "tallies_pkey"):
        raise NotMeasured(f"stats: {'; '.join(faults)}")


async def _read_lists(client: httpx.AsyncClient, kind: ListFilter | None, requests: int) -> list[float]:
    """Milliseconds of each request: any range, and up to three pages of a list."""
    chance, took = random.Random(1), list[float]()
    query: dict[str, Any] = {}
    pages = 0
    while len(took) < requests + _WARM_UP:
        if "after" not in query or pages == 3:
            query, pages = (
                {"limit": _PAGE, **_draw_range(chance), **({kind.value: _DRAW[kind](chance)} if kind else {})},
                0,
            )
        document = await _get(client, "/v1/emails", query, took)
        pages += 1
        query.pop("after", None)
        if "next" in document:
            query["after"] = document["next"]
    return took[_WARM_UP:]


async def _read_stats(client: httpx.AsyncClient, requests: int) -> list[float]:
    chance, took = random.Random(2), list[float]()
    while len(took) < requests + _WARM_UP:
        resolution, hours = chance.choice([("minute", 24), ("hour", 24 * 60), ("day", 24 * DAYS)])
        since = datetime.now(UTC) - timedelta(hours=hours)
        tag = chance.choice([{}, {"tag": "tag-0"}, {"tag": "rare"}])
        await _get(client, "/v1/stats", {"resolution": resolution, "from": since.isoformat(), **tag}, took)
    return took[_WARM_UP:]


def _draw_range(chance: random.Random) -> dict[str, str]:
    if chance.random() < 0.5:
        return {}
    since = datetime.now(UTC) - timedelta(days=chance.uniform(1, DAYS))
    return {"from": since.isoformat(), "to": (since + timedelta(days=chance.choice([1, 7, 30]))).isoformat()}


async def _get(client: httpx.AsyncClient, path: str, query: dict[str, Any], took: list[float]) -> Any:
    began = time.perf_counter()
    answer = await client.get(path, params=query)
    took.append((time.perf_counter() - began) * 1e3)
    if answer.status_code != 200:
        raise NotMeasured(f"{path} answered {answer.status_code}: {answer.text[:300]}")
    return answer.json()
