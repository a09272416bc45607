"""What is kept of mailings that are over, by a clock that is moved, on a real PostgreSQL."""

from typing import Any

from services.scheduler.mailings.parts import list_mailing_chores
from services.scheduler.pacing.parts import list_bulk_chores
from services.scheduler.pacing.states import BulkState
from tests.support.mailing_machine import DAY, Machine

DAY_S = DAY.total_seconds()


async def clean(machine: Machine) -> None:
    """As the worker does every hour, with what it keeps by default."""
    database = machine.database
    for chore in (*list_mailing_chores(database, 400 * DAY), *list_bulk_chores(database, 30 * DAY)):
        while await chore.delete(3) == 3:
            pass


async def run_over(machine: Machine) -> Any:
    """A mailing that is finished: four were sent, two bounced."""
    await machine.add_contacts(6)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    mails = await machine.drain()
    await machine.settle(mails[:4])
    await machine.settle(mails[4:], BulkState.FAILED, "rejected")
    assert (await machine.engine.finish(machine.shop.name))["finished"] == 1
    await machine.shop.set(mailing, "told_at = now()")
    return mailing


async def list_recipients(machine: Machine, mailing: Any, expect: int = 200, query: str = "") -> Any:
    return await machine.shop.ask("GET", f"/v1/mailings/{mailing['id']}/recipients{query}", expect=expect)


async def read_figures(machine: Machine, mailing: Any) -> tuple[Any, ...]:
    stats = await machine.shop.ask("GET", "/v1/mailings/stats", expect=200)
    return (await machine.read(mailing))["counts"], stats["data"][0]["failed"], stats["total"]


async def test_who_got_a_mailing_is_kept_long_after_it_and_who_failed_can_be_tried_again(machine: Machine) -> None:
    mailing = await run_over(machine)
    await machine.pass_time(399 * DAY_S)
    await clean(machine)
    assert len((await list_recipients(machine, mailing))["data"]) == 6
    assert (await machine.do(mailing, "retry"))["state"] == "running"
    assert (await machine.engine.start(machine.shop.name))["next_round"] == 2
    mails = await machine.drain()
    assert await machine.pacing.load_contents([(mail.lane, mail.content) for mail in mails if mail.content])
    await machine.settle(mails[:1])
    await machine.settle(mails[1:], BulkState.FAILED, "deferred")
    assert (await machine.engine.finish(machine.shop.name))["finished"] == 1
    _, failed, total = await read_figures(machine, mailing)
    assert failed == total["failed"] == {"deferred": 1}


async def test_the_counts_of_a_mailing_stay_true_when_its_recipients_are_gone_and_that_is_said(
    machine: Machine,
) -> None:
    mailing = await run_over(machine)
    before = await read_figures(machine, mailing)
    assert (before[0]["success"], before[0]["fail"], before[1]) == (4, 2, {"rejected": 2})
    await machine.pass_time(401 * DAY_S)
    await clean(machine)
    assert not await machine.list_rows(mailing)
    assert not await machine.database.fetch("SELECT FROM scheduler.bulk_content")
    assert await read_figures(machine, mailing) == before
    assert (await machine.read(mailing))["recipients_deleted_at"]
    for query in ("", "?state=fail", "?format=csv"):
        gone = await list_recipients(machine, mailing, 410, query)
        assert gone["type"].endswith("/aged-out") and "MILENA_MAILING_RETENTION" in gone["detail"]
    assert (await machine.do(mailing, "retry", expect=409))["type"].endswith("/aged-out")
    await machine.shop.ask("DELETE", f"/v1/mailings/{mailing['id']}", expect=204)
    await clean(machine)
    assert not await machine.database.fetch("SELECT FROM scheduler.bulk_lane")


async def test_of_a_mailing_that_is_deleted_nothing_is_kept_for_long(machine: Machine) -> None:
    mailing = await run_over(machine)
    await machine.shop.ask("DELETE", f"/v1/mailings/{mailing['id']}", expect=204)
    await clean(machine)
    assert len(await machine.list_rows(mailing)) == 6
    await machine.pass_time(61 * DAY_S)
    await clean(machine)
    for table in ("bulk_mail", "bulk_lane", "bulk_content"):
        assert not await machine.database.fetch(f"SELECT FROM scheduler.{table}")
