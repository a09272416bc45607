"""How mailings stand and who got them, over HTTP, on a real PostgreSQL; the rows are as the engine leaves them."""

import csv
import io
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from services.scheduler.contacts.identity import identify_recipient
from services.scheduler.mailings.standing.outcome_store import OutcomeStore
from services.scheduler.mailings.standing.reasons_store import ReasonStore
from services.scheduler.mailings.states import MessageState
from services.scheduler.pacing.states import BulkState
from shared.database import Database
from tests.support.mailings import Account, World

ROWS = [
    ("pending", None, None),
    ("queued", None, None),
    ("sent", None, None),
    ("sent", None, None),
    ("deferred", "deferred", "451 later"),
    ("failed", "rejected", "550 =no such user"),
    ("failed", "template_error", "variable `plan` is not given"),
    ("expired", None, None),
    ("skipped", "unsubscribed", None),
]


@dataclass(frozen=True)
class Ran:
    account: Account
    mailing: Any
    recipients: dict[UUID, tuple[str, str | None, str | None]]

    @property
    def path(self) -> str:
        return f"/v1/mailings/{self.mailing['id']}/recipients"

    async def ask(self, **params: Any) -> Any:
        return await self.account.ask("GET", self.path, expect=200, params=params)


@pytest.fixture
async def ran(world: World) -> Ran:
    return await run(await world.open())


async def run(shop: Account, *, is_new: bool = True) -> Ran:
    mailing = await shop.create()
    counts: dict[str, int] = {}
    for state, _, _ in ROWS:
        counts[state] = counts.get(state, 0) + 1
    names, values = ", ".join(counts), ", ".join(map(str, counts.values()))
    [lane] = await shop.database.fetch(
        f"""
        INSERT INTO scheduler.bulk_lane (account, kind, name, {names})
        VALUES ($1, 'mailing', $2, {values}) RETURNING id
        """,
        shop.name,
        mailing["id"],
    )
    recipients = {}
    for number, row in enumerate(ROWS, 1):
        address = f"r{number}@example.org"
        recipient = identify_recipient(shop.name, address)
        if is_new:
            await shop.add_contact(address, "=Eve" if number == 1 else f"R{number}")
        recipients[recipient] = row
        await shop.database.fetch(
            """
            INSERT INTO scheduler.bulk_mail
                (id, lane, state, number, due_at, attempt, own, recipient, reason, detail, handed_at)
            VALUES ($1, $2, $3, $4, now(), 0, '{}', $5, $6, $7,
                    CASE WHEN $3 NOT IN ('pending', 'skipped') THEN now() END)
            """,
            uuid4(),
            lane["id"],
            row[0],
            number,
            recipient,
            *row[1:],
        )
    started = f"state = 'running', lane = {lane['id']}, started_at = now() - interval '10 s'"
    await shop.set(mailing, started)
    return Ran(shop, mailing, recipients)


async def test_a_mailing_tells_how_its_recipients_stand_and_the_counts_add_up(ran: Ran) -> None:
    told = await ran.account.ask("GET", f"/v1/mailings/{ran.mailing['id']}", expect=200)
    assert told["counts"] == {
        "pending": 2,
        "success": 2,
        "fail": 4,
        "skipped": 1,
        "in_flight": 2,
        "final": 6,
        "recipients": len(ROWS),
        "unsubscribed": 0,
    }
    draft = await ran.account.create()
    told = await ran.account.ask("GET", f"/v1/mailings/{draft['id']}", expect=200)
    assert set(told["counts"].values()) == {0}


async def test_recipients_come_page_by_page_each_once_with_state_and_reason(ran: Ran) -> None:
    page, seen = await ran.ask(limit=4), []
    while True:
        seen += page["data"]
        if page["next"] is None:
            break
        page = await ran.ask(limit=4, after=page["next"])
    assert [UUID(each["recipient"]) for each in seen] == sorted(ran.recipients)
    by_address = {each["address"]: each for each in seen}
    bounced = by_address["r6@example.org"]
    assert (bounced["state"], bounced["final"], bounced["reason"]) == ("fail", True, "rejected")
    assert bounced["detail"] == "550 =no such user"
    assert (by_address["r2@example.org"]["state"], by_address["r2@example.org"]["in_flight"]) == ("pending", True)
    assert (by_address["r8@example.org"]["reason"], by_address["r9@example.org"]["reason"]) == (
        "expired",
        "unsubscribed",
    )


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"state": "pending"}, {1, 2}),
        ({"state": "success"}, {3, 4}),
        ({"state": "fail"}, {5, 6, 7, 8}),
        ({"state": "skipped"}, {9}),
        ({"reason": "rejected"}, {6}),
        ({"reason": "expired"}, {8}),
        ({"state": "fail", "reason": "template_error"}, {7}),
        ({"state": "success", "reason": "rejected"}, set()),
        ({"state": "pending", "reason": "rejected"}, set()),
        ({"reason": "unsubscribed"}, {9}),
    ],
)
async def test_recipients_of_one_state_or_reason_are_found(ran: Ran, wanted: dict[str, str], numbers: set[int]) -> None:
    found = await ran.ask(**wanted, limit=2)
    seen = [*found["data"]]
    while found["next"]:
        found = await ran.ask(**wanted, limit=2, after=found["next"])
        seen += found["data"]
    assert [each["recipient"] for each in seen] == sorted(each["recipient"] for each in seen)
    assert [each["address"] for each in sorted(seen, key=lambda each: str(each["address"]))] == [
        f"r{number}@example.org" for number in sorted(numbers)
    ]


class Reading:
    """A database that counts the rows of mails which each statement reads."""

    def __init__(self, database: Database) -> None:
        self.database, self.read = database, 0

    async def fetch(self, statement: str, *args: Any) -> Any:
        [row] = await self.database.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *args)
        self.read += count_read(row["QUERY PLAN"][0]["Plan"])
        return await self.database.fetch(statement, *args)


def count_read(plan: Any) -> int:
    """Rows of bulk_mail, those that were looked at for nothing among them."""
    rows = sum(plan.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck"))
    own = rows * plan["Actual Loops"] if plan.get("Relation Name") == "bulk_mail" else 0
    return int(own) + sum(map(count_read, plan.get("Plans", ())))


async def test_no_question_reads_the_recipients_of_whom_it_is_not_asked(ran: Ran) -> None:
    database = ran.account.database
    await database.fetch(
        """
        INSERT INTO scheduler.bulk_mail (id, lane, state, number, due_at, recipient, reason, handed_at)
        SELECT gen_random_uuid(), mailing.lane, given.state, number, now(), gen_random_uuid(),
               CASE given.state WHEN 'cancelled' THEN 'cancelled' END, now() - interval '1 h'
        FROM scheduler.mailing, unnest(ARRAY['sent', 'cancelled']) AS given(state), generate_series(100, 6000) AS number
        WHERE mailing.id = $1
        """,
        UUID(ran.mailing["id"]),
    )
    await database.fetch("UPDATE scheduler.bulk_lane SET flying_since = now() - interval '1 min'")
    await database.fetch("ANALYZE scheduler.bulk_mail")
    reading = Reading(database)
    store = OutcomeStore(cast(Database, reading))
    asked: list[tuple[Any, Any]] = [*((state, None) for state in (None, *MessageState)), (None, "rejected")]
    for state, reason in [*asked, (MessageState.FAIL, "template_error"), (MessageState.SKIPPED, "erased")]:
        reading.read = 0
        found = await store.list_recipients(UUID(ran.mailing["id"]), state, reason, None, 10)
        assert len(found) == 10 or state is not None or reason is not None
        assert reading.read <= 100, (state, reason)
    reading.read = 0
    reasons = ReasonStore(cast(Database, reading))
    [counted] = (await reasons.count([UUID(ran.mailing["id"])])).values()
    assert counted[BulkState.CANCELLED, "cancelled"] == 5901
    assert reading.read <= 5901 + len(ROWS)


async def test_all_of_them_are_downloaded_as_csv_and_none_becomes_a_formula(ran: Ran) -> None:
    headers = {"Authorization": f"Bearer {ran.account.secret}"}
    answer = await ran.account.client.get(ran.path, params={"format": "csv", "limit": 2}, headers=headers)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == len(ROWS)
    [eve] = [row for row in rows if row["address"] == "r1@example.org"]
    assert (eve["name"], eve["in_flight"], eve["reason"]) == ("'=Eve", "false", "")


async def test_who_was_erased_has_no_address_but_still_his_state(ran: Ran) -> None:
    gone = min(ran.recipients)
    await ran.account.database.fetch("DELETE FROM scheduler.contact WHERE id = $1", gone)
    found = (await ran.ask(limit=1))["data"][0]
    assert (found["recipient"], found["address"], found["name"]) == (str(gone), None, None)


async def test_a_cursor_of_another_list_is_refused_and_so_are_other_accounts(ran: Ran, world: World) -> None:
    cursor = (await ran.ask(limit=1))["next"]
    for params in ({"after": cursor, "state": "fail"}, {"after": "x"}, {"state": "sent"}, {"limit": 0}):
        refused = await ran.account.ask("GET", ran.path, expect=422, params=params)
        assert refused["errors"][0]["pointer"].startswith("/query/")
    await (await world.open()).ask("GET", ran.path, expect=404)


async def test_statistics_tell_of_each_mailing_and_of_all_together(ran: Ran, world: World) -> None:
    await run(await world.open())  # somebody else's
    other = await run(ran.account, is_new=False)
    await ran.account.set(other.mailing, "state = 'finished', finished_at = started_at + interval '4 s'")
    told = await ran.account.ask("GET", "/v1/mailings/stats", expect=200)
    failed = {"deferred": 1, "expired": 1, "rejected": 1, "template_error": 1}
    finished, running = told["data"]
    assert (finished["id"], running["id"]) == (other.mailing["id"], ran.mailing["id"])
    assert (finished["sent"], finished["duration_s"], finished["rate"]) == (2, 4.0, 0.5)
    assert finished["failed"] == running["failed"] == failed
    assert running["duration_s"] >= 10
    assert told["total"] == {
        "mailings": 2,
        "recipients": 2 * len(ROWS),
        "sent": 4,
        "failed": dict.fromkeys(failed, 2),
        "skipped": 2,
    }
    first = await ran.account.ask("GET", "/v1/mailings/stats?limit=1", expect=200)
    second = await ran.account.ask("GET", "/v1/mailings/stats", expect=200, params={"after": first["next"]})
    assert [each["id"] for each in second["data"]] == [ran.mailing["id"]]
