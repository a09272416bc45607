"""What works for a mailing, in one process of a test: its jobs, and its hand-out, on a real PostgreSQL."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.scheduler.mailings.course.engine import Engine, EnginePolicy
from services.scheduler.mailings.course.finish_store import FinishStore
from services.scheduler.mailings.course.freeze_store import FreezeStore
from services.scheduler.mailings.course.round_store import RoundStore
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.pacing.fairness import share_out
from services.scheduler.pacing.settling_store import Result, SettlingStore
from services.scheduler.pacing.states import BulkState
from services.scheduler.pacing.store import PacingStore, QueuedMail
from services.scheduler.unsubscribing.store import Source, UnsubscriptionStore
from tests.support.mailings import Account, World

DAY, LEASE = timedelta(days=1), timedelta(seconds=30)
CONTENT = {"from": "news@example.com", "subject": "Hello", "text": "Hi {{ name }}"}


class Machine:
    """One account, and what works for it: jobs and hand-out as any process does them."""

    def __init__(self, shop: Account, *, repeat_failed: bool = False) -> None:
        self.shop, self.database = shop, shop.database
        self.freezes = FreezeStore(self.database, self.database)
        self.rounds = RoundStore(self.database, repeat_failed=repeat_failed)
        policy = EnginePolicy(timedelta(seconds=600), 1024 * 1024)
        self.engine = Engine(self.freezes, self.rounds, FinishStore(self.database), BulkStore(self.database), policy)
        self.pacing, self.settling = PacingStore(self.database), SettlingStore(self.database)

    async def add_contacts(self, count: int, name: str = "ann", zone: str | None = None) -> list[UUID]:
        """So many people, whose recipient ids these are."""
        added = [await self.shop.add_contact(f"{name}{number}@example.org", "Ann") for number in range(count)]
        if zone:
            await self.database.fetch(
                "UPDATE scheduler.contact SET timezone = $2 WHERE id = ANY($1::uuid[])", added, zone
            )
        return added

    async def begin(self, **fields: Any) -> Any:
        """A mailing that was started over HTTP."""
        mailing = await self.shop.create(content={**CONTENT}, **fields)
        await self.do(mailing, "start")
        return mailing

    async def do(self, mailing: Any, action: str, body: Any = None, expect: int = 202) -> Any:
        return await self.shop.ask("POST", f"/v1/mailings/{mailing['id']}/{action}", expect=expect, json=body)

    async def change(self, mailing: Any, expect: int = 200, **fields: Any) -> Any:
        return await self.shop.ask("PATCH", f"/v1/mailings/{mailing['id']}", expect=expect, json=fields)

    async def read(self, mailing: Any) -> Any:
        return await self.shop.ask("GET", f"/v1/mailings/{mailing['id']}", expect=200)

    async def take(self) -> list[QueuedMail]:
        """What is handed out now."""
        view = await self.pacing.look()
        shares = share_out(view.free, view.claims)
        taken = await self.pacing.take(shares, view.stuck, LEASE, DAY, DAY) if shares else None
        return taken[1] if taken else []

    async def drain(self) -> list[QueuedMail]:
        """All that can be handed out, without any result."""
        taken: list[QueuedMail] = []
        while some := await self.take():
            taken += some
        return taken

    async def settle(
        self,
        mails: Sequence[QueuedMail],
        state: BulkState = BulkState.SENT,
        reason: str | None = None,
        attempt: int = 1,
    ) -> None:
        ids = sorted(str(mail.id) for mail in mails)
        await self.settling.settle([Result(each, state, attempt, reason, reason and "words") for each in ids])

    async def count(self, mailing: Any) -> dict[str, int]:
        """By state, as the rows say; and so must the lane."""
        rows = await self.list_rows(mailing)
        found = Counter(row["state"] for row in rows)
        lanes = await self.database.fetch("SELECT * FROM scheduler.bulk_lane WHERE name = $1", mailing["id"])
        assert {state.value: lanes[0][state.value] for state in BulkState} == {
            state.value: found[state.value] for state in BulkState
        }
        window = await self.database.fetch("SELECT in_flight FROM scheduler.bulk_window")
        queued = await self.database.fetch("SELECT count(*) AS n FROM scheduler.bulk_mail WHERE state = 'queued'")
        assert window[0]["in_flight"] == queued[0]["n"]
        return dict(found)

    async def unsubscribe(self, recipient: UUID) -> None:
        store = UnsubscriptionStore(self.database)
        assert await store.add(self.shop.name, [recipient], Source.MANUAL) == 1

    async def list_rows(self, mailing: Any) -> list[Any]:
        return await self.database.fetch(
            """
            SELECT mail.* FROM scheduler.bulk_mail AS mail JOIN scheduler.bulk_lane AS lane ON lane.id = mail.lane
            WHERE lane.name = $1 ORDER BY number
            """,
            mailing["id"],
        )

    async def pass_time(self, seconds: float) -> None:
        """So long goes by, as PostgreSQL sees it."""
        by = timedelta(seconds=seconds)
        for table, columns in (
            ("bulk_mail", ("due_at", "expires_at", "handed_at", "ended_at")),
            (
                "bulk_lane",
                ("handed_at", "result_at", "flying_since", "tokens_at", "finish_at", "created_at", "changed_at"),
            ),
            ("bulk_content", ("used_at",)),
            ("bulk_window", ("heard_at", "heard_since")),
            ("mailing", ("start_at", "finish_at", "started_at", "frozen_at", "freeze_until", "finished_at")),
        ):
            moved = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
            await self.database.fetch(f"UPDATE scheduler.{table} SET {moved}", by)


@asynccontextmanager
async def open_machine(world: World) -> AsyncIterator[Machine]:
    """A machine of a test's own, and afterwards none of its mail is left to others."""
    shop = await world.open()
    yield Machine(shop)
    tables = "bulk_lane, scheduler.bulk_content, scheduler.bulk_mail, scheduler.bulk_group, scheduler.mailing"
    await shop.database.fetch(f"TRUNCATE scheduler.{tables}, scheduler.occurrence")
    await shop.database.fetch(
        "UPDATE scheduler.bulk_window SET size = 50, in_flight = 0, heard_at = NULL, heard_since = NULL"
    )
