"""Lists of mails and counts of them, on a real database: what is shown, in which order, by which index."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI

from services.gateway.answers import Stats
from services.gateway.counting import setup_counting
from services.gateway.list_store import STATEMENTS, ListStore
from services.gateway.listing import setup_listing
from services.gateway.lists import ListFilter
from services.gateway.tally_store import READ, TallyStore
from services.gateway.worker import Projector
from shared.access import AccessStore, ApiScope, KeyLookup
from shared.batching import Record
from shared.database import LIST_PLANNING, Database
from shared.events import new_email_id
from shared.kafka_access import KafkaAccess
from shared.settings import HttpSettings
from shared.web import setup_web
from tests.bench.listed_mails import fill_read_model, list_days
from tests.bench.plans import INDEXES, find_faults
from tests.support.gateway import mint
from tests.support.listed import check_listed, read_tallies
from tests.support.states import Put, failed, request, sent

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)


@dataclass
class ReadModel:
    """A read model that records are taken into, and a caller of the account `default`."""

    database: Database
    client: httpx.AsyncClient
    _offset: int = field(default=0)

    async def take(self, *puts: tuple[Put, datetime]) -> None:
        """Take records, each with its time, in one batch."""
        projector = Projector(self.database, kafka=KafkaAccess(""), event_limit=1024 * 1024, cluster_id="cluster")
        await projector.project([self._write(put, at) for put, at in puts])

    async def list_ids(self, **query: Any) -> list[str]:
        """The ids of a list, page after page."""
        ids: list[str] = []
        while True:
            page = await self.get("/v1/emails", **query)
            ids += [item["id"] for item in page["data"]]
            if "next" not in page:
                return ids
            query["after"] = page["next"]

    async def get(self, path: str, **query: Any) -> Any:
        """A 200's document."""
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _write(self, put: Put, at: datetime) -> Record:
        self._offset += 1
        topic, _, value = put
        headers = (("ce_type", f"email.{topic}".encode()),)
        return Record(f"email.{topic}", 0, self._offset, int(at.timestamp() * 1000), value, headers)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, planning=LIST_PLANNING)
    yield database
    await database.close()


@pytest.fixture
async def model(database: Database, database_url: str) -> AsyncIterator[ReadModel]:
    caller = await mint(database_url)
    app = FastAPI()
    keys = KeyLookup(AccessStore(database))
    setup_web(app, HttpSettings(), {}, body_limit=1000)
    setup_listing(app, keys, ListStore(database))
    setup_counting(app, keys, TallyStore(database))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=caller.headers) as client:
        yield ReadModel(database, client)


def draw_ids(count: int) -> list[str]:
    return [str(new_email_id()) for _ in range(count)]


async def test_each_filter_finds_its_mails_newest_first_over_days_and_of_one_account(model: ReadModel) -> None:
    old, late, strange, other = *draw_ids(2), str(uuid4()), str(new_email_id())
    marks = {"mailing_id": "m1", "batch_id": "b1", "api_key_id": "k1", "tags": ["june", "june", "vip"]}
    await model.take(
        (request(strange, to="Ann <Ann@EXAMPLE.org>", **marks), NOON),  # lies in its first day's partition
        (request(late, to="b@x.org", cc="c@x.org", bcc="Ann@example.ORG", **marks), NOON + timedelta(days=1)),
        (request(old, to="ann@example.org", tags=["may"]), NOON - timedelta(days=30)),
        (request(other, to="Ann@example.org", account="another", **marks), NOON),
        (failed(strange, "rejected", "Ann@EXAMPLE.org", complete=True), NOON + timedelta(hours=1)),
    )
    assert await model.list_ids() == [late, strange, old]
    assert await model.list_ids(limit=1) == [late, strange, old]
    for query in ({"tag": "june"}, {"mailing_id": "m1"}, {"batch_id": "b1"}, {"api_key_id": "k1"}):
        assert await model.list_ids(**query) == [late, strange], query
    assert await model.list_ids(tag="may") == [old]
    assert await model.list_ids(recipient="Ann@Example.ORG", limit=1) == [late, strange]
    assert await model.list_ids(recipient="ann@example.org") == [old]  # the local part counts as written
    assert await model.list_ids(status="failed") == [strange]
    assert await model.list_ids(status="queued") == [late, old]
    assert await model.list_ids(**{"from": NOON.isoformat(), "to": (NOON + timedelta(days=1)).isoformat()}) == [strange]
    assert await model.list_ids(tag="nobody-has-it") == []
    await check_listed(model.database)


async def test_an_item_is_short_and_has_no_more_than_a_list_needs(model: ReadModel) -> None:
    (email_id,) = draw_ids(1)
    to = [f"user{number}@x.org" for number in range(40)]
    await model.take((request(email_id, to=to, cc="c@x.org", tags=["a"], text="secret words"), NOON))
    answer = await model.client.get("/v1/emails")
    (item,) = answer.json()["data"]
    assert item == {
        "id": email_id,
        "status": "queued",
        "from": "s@x.org",
        "to": to[:3],
        "recipient_count": 41,
        "subject": "s",
        "tags": ["a"],
        "created_at": NOON.isoformat().replace("+00:00", "Z"),
        "updated_at": NOON.isoformat().replace("+00:00", "Z"),
        "links": {
            "self": f"/v1/emails/{email_id}",
            "events": f"/v1/emails/{email_id}/events",
            "deliveries": f"/v1/webhooks/deliveries?email_id={email_id}",
        },
    }
    assert "secret" not in answer.text


async def test_mails_of_one_moment_come_once_each_however_short_the_pages(model: ReadModel) -> None:
    ids = draw_ids(7)
    await model.take(*((request(each, tags=["t"]), NOON) for each in ids))
    expected = sorted(ids, reverse=True)
    assert await model.list_ids(limit=2) == expected
    assert await model.list_ids(limit=3, tag="t") == expected


async def test_what_cannot_be_listed_or_counted_says_why(model: ReadModel) -> None:
    cases: list[tuple[str, dict[str, str], list[str]]] = [
        ("emails", {"status": "sent", "tag": "a"}, ["status", "tag"]),
        ("emails", {"status": "delivered"}, ["status"]),
        ("emails", {"recipient": "nobody"}, ["recipient"]),
        ("emails", {"from": "2026-01-01T00:00:00"}, ["from"]),
        ("emails", {"from": "yesterday"}, ["from"]),
        ("emails", {"from": "2026-01-02T00:00:00Z", "to": "2026-01-02T01:00:00+01:00"}, ["to"]),
        ("emails", {"limit": "201"}, ["limit"]),
        ("emails", {"after": "nonsense"}, ["after"]),
        ("emails", {"state": "sent"}, ["state"]),
        ("emails", {"mailing_id": "a\0b"}, ["mailing_id"]),
        ("stats", {"resolution": "second"}, ["resolution"]),
        ("stats", {"from": "2020-01-01T00:00:00Z"}, ["from"]),
        ("stats", {"tag": "with space"}, ["tag"]),
        ("stats", {"status": "sent"}, ["status"]),
    ]
    for name, query, fields in cases:
        answer = await model.client.get(f"/v1/{name}", params=query)
        assert answer.status_code == 422, query
        assert [error["pointer"] for error in answer.json()["errors"]] == [f"/query/{each}" for each in fields]


async def test_a_cursor_goes_on_in_its_own_list_only(model: ReadModel) -> None:
    ids = draw_ids(3)
    await model.take(*((request(each, tags=["a", "b"]), NOON) for each in ids))
    page = await model.get("/v1/emails", tag="a", limit=1)
    for other in ({"tag": "b"}, {}, {"tag": "a", "to": "2030-01-01T00:00:00Z"}):
        answer = await model.client.get("/v1/emails", params={**other, "after": page["next"]})
        assert answer.status_code == 422
        assert "another list" in answer.json()["errors"][0]["detail"]
    assert len((await model.get("/v1/emails", tag="a", limit=200, after=page["next"]))["data"]) == 2


async def test_a_mail_that_changes_is_found_by_what_it_is_now(model: ReadModel) -> None:
    first, second = draw_ids(2)
    await model.take((sent(first, "a@x.org", complete=True), NOON + timedelta(minutes=5)))
    assert await model.list_ids(status="sent") == [first]
    assert await model.list_ids(recipient="a@x.org") == []
    await model.take((request(first, to="a@x.org", tags=["early"]), NOON))  # read after its result
    assert await model.list_ids(tag="early") == [first]
    await model.take((request(second, to="a@x.org", tags=["mine"]), NOON + timedelta(minutes=1)))
    await model.take((request(second, to="b@x.org", tags=["theirs"], account="another"), NOON - timedelta(minutes=1)))
    assert await model.list_ids(recipient="a@x.org") == [first]  # of two under one id the earlier counts
    assert await model.list_ids(tag="mine") == []
    await check_listed(model.database)


async def test_counts_are_those_of_the_mails_whatever_comes_twice_late_or_at_once(model: ReadModel) -> None:
    chance, ids = random.Random(7), draw_ids(60)
    told: list[tuple[Put, datetime]] = []
    for number, each in enumerate(ids):
        at = NOON + timedelta(minutes=number % 3, hours=number % 2)
        tags = chance.choice([[], ["a"], ["a", "b", "a"]])
        told.append((request(each, to="a@x.org", tags=tags, account=chance.choice(["default", "another"])), at))
        told.append((failed(each, "deferred", "a@x.org", final=False), at + timedelta(minutes=1)))
        told.append((chance.choice([sent, failed_for_good])(each, "a@x.org", complete=True), at + timedelta(minutes=2)))
    batches: list[Sequence[tuple[Put, datetime]]] = [chance.sample(told, len(told)) for _ in range(4)]
    await asyncio.gather(*(model.take(*batch) for batch in batches))
    await model.take(*told)
    await check_listed(model.database)
    tallies = await read_tallies(model.database)
    assert sum(mails for (_, tag, resolution, *_), mails in tallies.items() if (tag, resolution) == ("", "hour")) == 60


def failed_for_good(email_id: str, *recipients: str, **fields: Any) -> Put:
    return failed(email_id, "rejected", *recipients, **fields)


async def test_stats_tell_each_span_once_and_what_the_range_adds_up_to(model: ReadModel) -> None:
    one, two, three, other = draw_ids(4)
    await model.take(
        (request(one, to="a@x.org", tags=["june"]), NOON),
        (request(two, to="a@x.org"), NOON + timedelta(minutes=1)),
        (request(three, to="a@x.org", tags=["june"]), NOON + timedelta(days=1)),
        (request(other, to="a@x.org", account="another"), NOON),
        (sent(one, "a@x.org", complete=True), NOON + timedelta(days=1)),
    )
    start = NOON.isoformat()
    minutes = await model.get(
        "/v1/stats", **{"from": start, "to": (NOON + timedelta(seconds=150)).isoformat(), "resolution": "minute"}
    )
    told = [(each["accepted"], each["sent"], each["queued"]) for each in minutes["data"]]
    assert told == [(1, 1, 0), (1, 0, 1), (0, 0, 0)]
    assert minutes["total"]["accepted"] == 2
    days = await model.get("/v1/stats", **{"from": start, "resolution": "day", "tag": "june"})
    assert [(each["accepted"], each["sent"]) for each in days["data"]] == [(1, 1), (1, 0), (0, 0)]
    assert days["data"][0]["start"] == NOON.replace(hour=0).isoformat().replace("+00:00", "Z")
    assert Stats.model_validate(days).model_dump(mode="json", by_alias=True) == days
    hours = await model.get("/v1/stats", **{"from": start, "to": (NOON + timedelta(hours=1)).isoformat()})
    assert [each["accepted"] for each in hours["data"]] == [2]


async def test_lists_and_counts_need_the_scope_to_read(model: ReadModel, database_url: str) -> None:
    sender = await mint(database_url, scopes=[ApiScope.EMAILS_SEND])
    for path in ("/v1/emails", "/v1/stats"):
        assert (await model.client.get(path, headers={"Authorization": ""})).status_code == 401
        assert (await model.client.get(path, headers=sender.headers)).status_code == 403


async def test_every_list_is_a_range_of_its_own_index_on_each_day(database: Database, database_url: str) -> None:
    await fill_read_model(database, 6000, days=12)
    today = datetime.now(UTC)
    some = (today - timedelta(days=100), today, UUID(int=0), 51)
    values = {ListFilter.MAILING: f"mailing-{list_days(12)[3]}", ListFilter.KEY: "key_default_1"}
    values |= {ListFilter.TAG: "tag-3", ListFilter.RECIPIENT: "user7@example.org"}
    values |= {ListFilter.STATUS: "failed", ListFilter.BATCH: "batch-rare"}
    for kind, statement in STATEMENTS.items():
        arguments = ("default", *some, *([values[kind]] if kind else []))
        assert await find_faults(database_url, statement, arguments, INDEXES[kind]) == [], kind
    counted = ("default", "tag-3", "hour", today - timedelta(days=8), "day", today)
    assert await find_faults(database_url, READ, counted, "tallies_pkey") == []
