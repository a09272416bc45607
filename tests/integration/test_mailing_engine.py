"""What becomes of mailings once they are started, whoever dies in between, on a real PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.scheduler.contacts.erasing_store import _STOP_FREEZING
from services.scheduler.mailings.course.engine import EnginePolicy
from services.scheduler.pacing.settling_store import Result
from services.scheduler.pacing.states import BulkState
from services.scheduler.pacing.store import RELEASES, PacingStore, QueuedMail
from shared.database import Database, DatabaseUnavailable
from shared.events.identity import name_mails
from tests.support.mailing_machine import CONTENT, Machine


async def test_an_audience_is_taken_in_once_whoever_dies_and_nobody_who_comes_later(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.scheduler.mailings.course.engine._FROZEN_AT_ONCE", 3)
    before = set(await machine.add_contacts(10))
    mailing = await machine.begin()
    keep, written = machine.freezes.keep, 0

    async def keep_and_die(*args: Any, **options: Any) -> Any:
        nonlocal written
        written += 1
        if written == 2:
            raise DatabaseUnavailable("it never got there")
        kept = await keep(*args, **options)
        if written == 3:
            raise DatabaseUnavailable("it got there, and nobody heard of it")
        return kept

    monkeypatch.setattr(machine.freezes, "keep", keep_and_die)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await machine.engine.start(machine.shop.name)
        assert (await machine.engine.start(machine.shop.name))["recipients"] == 0  # somebody else has it
        await machine.database.fetch("UPDATE scheduler.mailing SET freeze_until = now() - interval '1 s'")
    await machine.shop.add_contact("late@example.org", "Late")
    assert (await machine.read(mailing)).get("frozen_at") is None
    assert (await machine.engine.start(machine.shop.name))["recipients"] == 4
    rows = await machine.list_rows(mailing)
    assert {UUID(int=row["recipient"].int) for row in rows} == before
    assert [row["number"] for row in rows] == list(range(1, 11))
    name = name_mails(UUID(mailing["id"]))
    assert {row["id"] for row in rows} == {name(each, 0) for each in before}
    found = await machine.read(mailing)
    assert (found["state"], found["recipients"]) == ("running", 10)
    assert found["frozen_at"]
    assert await machine.count(mailing) == {"pending": 10}


async def test_whoever_stood_still_while_another_went_on_writes_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.scheduler.mailings.course.engine._FROZEN_AT_ONCE", 3)
    await machine.add_contacts(5)
    mailing = await machine.begin()
    await machine.freezes.begin_due(machine.shop.name)
    leased = await machine.freezes.lease(machine.shop.name)
    assert leased
    await machine.database.fetch("UPDATE scheduler.mailing SET freeze_until = now() - interval '1 s'")
    assert (await machine.engine.start(machine.shop.name))["recipients"] == 5
    await machine.settle(await machine.drain(), BulkState.FAILED, "rejected")
    await machine.do(mailing, "retry")
    await machine.engine.start(machine.shop.name)
    assert await machine.engine._freeze(*leased) == 0
    assert await machine.count(mailing) == {"pending": 5}


async def test_who_is_erased_while_an_audience_is_taken_in_is_not_in_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, stays = await machine.add_contacts(2)
    mailing = await machine.begin()
    keep, erased = machine.freezes.keep, False

    async def erase_and_keep(*args: Any, **options: Any) -> Any:
        nonlocal erased
        if not erased:
            erased = True
            await machine.shop.ask("DELETE", f"/v1/contacts/{gone}", expect=200)
        return await keep(*args, **options)

    monkeypatch.setattr(machine.freezes, "keep", erase_and_keep)
    assert (await machine.engine.start(machine.shop.name))["recipients"] == 1
    assert [UUID(int=row["recipient"].int) for row in await machine.list_rows(mailing)] == [stays]
    assert (await machine.read(mailing))["frozen_at"]


async def test_who_is_erased_while_his_mail_is_with_the_senders_gets_no_next_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, late, stays = await machine.add_contacts(3)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    mails = await machine.drain()
    await machine.shop.ask("DELETE", f"/v1/contacts/{gone}", expect=200)
    results = [Result(str(mail.id), BulkState.FAILED, 1, "rejected", "550 no such user") for mail in mails]
    await machine.settling.settle(sorted(results))
    words = {UUID(int=row["recipient"].int): row["detail"] for row in await machine.list_rows(mailing)}
    assert words == {gone: None, late: "550 no such user", stays: "550 no such user"}
    await machine.do(mailing, "retry")
    renew = machine.rounds.renew

    async def erase_and_renew(*args: Any) -> int:
        await machine.shop.ask("POST", "/v1/contacts/erasures", expect=200, json={"address": "ann1@example.org"})
        return await renew(*args)

    monkeypatch.setattr(machine.rounds, "renew", erase_and_renew)
    assert (await machine.engine.start(machine.shop.name))["next_round"] == 1
    assert await machine.count(mailing) == {"failed": 2, "pending": 1}
    waiting = [row for row in await machine.list_rows(mailing) if row["state"] == "pending"]
    assert [UUID(int=row["recipient"].int) for row in waiting] == [stays] and late != stays
    await machine.settle(await machine.drain())
    assert (await machine.engine.finish(machine.shop.name))["finished"] == 1


async def test_mail_that_has_left_leaves_no_second_time_once_its_recipient_is_erased(machine: Machine) -> None:
    gone, stays = await machine.add_contacts(2)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    await machine.drain()
    await machine.shop.ask("DELETE", f"/v1/contacts/{gone}", expect=200)
    await machine.database.fetch("UPDATE scheduler.bulk_group SET lease_until = now() - interval '1 s'")
    [group] = await RELEASES.lease(machine.database, 10, timedelta(seconds=30))
    assert [mail.recipient for mail in await machine.pacing.list_queued(group)] == [stays]
    await machine.pass_time(700)
    await machine.database.fetch("UPDATE scheduler.bulk_lane SET result_at = now()")
    await machine.database.fetch(
        "UPDATE scheduler.bulk_window SET heard_at = now(), heard_since = now() - interval '1 h'"
    )
    assert (await machine.engine.start(machine.shop.name))["repeated"] == 1
    assert [mail.recipient for mail in await machine.drain()] == [stays]
    assert await machine.count(mailing) == {"queued": 2}


async def test_no_mailing_begins_while_somebody_of_its_account_is_being_erased(
    machine: Machine, module_database_url: str
) -> None:
    await machine.add_contacts(1)
    await machine.begin()
    other = Database(module_database_url, pool_size=1)
    async with other.transaction() as connection:
        await connection.execute(_STOP_FREEZING, {"account": machine.shop.name})
        assert await machine.freezes.begin_due(machine.shop.name) == 0
    assert await machine.freezes.begin_due(machine.shop.name) == 1
    await other.close()


async def test_a_cancelled_mailing_takes_nobody_in_any_more_and_is_over_once_all_have_their_end(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.scheduler.mailings.course.engine._FROZEN_AT_ONCE", 3)
    await machine.add_contacts(7)
    mailing = await machine.begin()
    keep = machine.freezes.keep

    async def keep_and_cancel(*args: Any, **options: Any) -> Any:
        kept = await keep(*args, **options)
        await machine.do(mailing, "cancel")
        return kept

    monkeypatch.setattr(machine.freezes, "keep", keep_and_cancel)
    await machine.engine.start(machine.shop.name)
    assert await machine.count(mailing) == {"pending": 3}
    assert await machine.take() == []
    await machine.engine.finish(machine.shop.name)
    assert "finished_at" not in await machine.read(mailing)
    assert await machine.settling.cancel_lanes(100) == 3
    assert (await machine.engine.finish(machine.shop.name))["cancelled"] == 1
    ended = await machine.read(mailing)
    assert (ended["state"], ended["counts"]["fail"]) == ("cancelled", 3)
    assert ended["finished_at"]


async def test_only_those_who_failed_get_another_mail(machine: Machine) -> None:
    await machine.add_contacts(6)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    first = await machine.drain()
    await machine.settle(first[:3])
    await machine.settle(first[3:5], BulkState.FAILED, "rejected")
    await machine.settle(first[5:], BulkState.FAILED, "unknown")
    assert (await machine.engine.finish(machine.shop.name))["finished"] == 1
    assert (await machine.read(mailing))["state"] == "finished"
    again = await machine.do(mailing, "retry")
    assert (again["state"], again.get("finished_at")) == ("running", None)
    assert (await machine.engine.finish(machine.shop.name))["finished"] == 0  # somebody has asked for more
    assert (await machine.engine.start(machine.shop.name))["next_round"] == 2
    second = await machine.drain()
    assert len(second) == 2
    assert not {mail.id for mail in second} & {mail.id for mail in first}
    assert all(b'"retry_of"' in mail.own for mail in second)
    await machine.settle(first, BulkState.SENT, attempt=9)  # of the mails before: nobody has them any more
    assert await machine.count(mailing) == {"sent": 3, "failed": 1, "queued": 2}
    await machine.settle(second)
    assert (await machine.engine.finish(machine.shop.name))["finished"] == 1
    assert await machine.count(mailing) == {"sent": 5, "failed": 1}


async def test_where_nobody_failed_there_is_nothing_to_retry(machine: Machine) -> None:
    await machine.add_contacts(1)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    await machine.settle(await machine.drain())
    refused = await machine.do(mailing, "retry", expect=409)
    assert (refused["type"].endswith("nothing-to-retry"), refused["detail"]) == (True, "None of its mails failed.")


async def test_what_the_relay_may_have_is_tried_again_only_if_somebody_says_so(machine: Machine) -> None:
    await machine.add_contacts(2)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    await machine.settle(await machine.drain(), BulkState.FAILED, "unknown")
    assert (await machine.engine.finish(machine.shop.name))["finished"] == 1
    refused = await machine.do(mailing, "retry", expect=409)
    assert refused["type"].endswith("nothing-to-retry")
    assert (refused["unknown"], refused["too_large"], refused["gone"]) == (2, 0, 0)
    assert "2 may have it already" in refused["detail"] and "`unknown: true`" in refused["detail"]
    assert (await machine.read(mailing))["state"] == "finished"  # it was not begun anew
    await machine.do(mailing, "retry", {"unknown": True})
    assert (await machine.engine.start(machine.shop.name))["next_round"] == 2


async def test_a_retry_of_nobody_says_who_is_not_tried_again_and_why(machine: Machine) -> None:
    gone, *_ = await machine.add_contacts(2)
    await machine.shop.add_contact("large@example.org", "Ann", note="x" * 1500)
    machine.engine._policy = EnginePolicy(timedelta(seconds=600), 1500)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    mails = await machine.drain()
    of_gone = next(row["id"] for row in await machine.list_rows(mailing) if row["recipient"] == gone)
    await machine.settle([mail for mail in mails if mail.id == of_gone], BulkState.FAILED, "rejected")
    await machine.settle([mail for mail in mails if mail.id != of_gone], BulkState.FAILED, "unknown")
    await machine.shop.ask("DELETE", f"/v1/contacts/{gone}", expect=200)
    refused = await machine.do(mailing, "retry", expect=409)
    assert (refused["unknown"], refused["too_large"], refused["gone"]) == (1, 1, 1)
    await machine.do(mailing, "retry", {"unknown": True})
    assert (await machine.engine.start(machine.shop.name))["next_round"] == 1


def make_hours(start: datetime, hours: float) -> dict[str, str]:
    """From a moment on, for so long, on the clock of UTC."""
    end = start + timedelta(hours=hours)
    return {"from": f"{start:%H:%M}", "to": f"{end:%H:%M}", "timezone": "UTC"}


async def test_mail_leaves_within_its_hours_and_what_is_late_waits_for_the_next_under_its_id(machine: Machine) -> None:
    now = datetime.now(UTC)
    await machine.add_contacts(3, "here")
    await machine.add_contacts(2, "kiritimati", "Etc/GMT-12")
    mailing = await machine.begin(hours=make_hours(now - timedelta(hours=1), 3))
    await machine.engine.start(machine.shop.name)
    ids = {row["id"] for row in await machine.list_rows(mailing)}
    assert len(await machine.drain()) == 3
    assert await machine.count(mailing) == {"queued": 3, "pending": 2}
    await machine.pass_time(12.5 * 3600)  # the others' hours have come
    await machine.pass_time(3 * 3600)  # and gone
    assert await machine.take() == []
    assert (await machine.engine.send(machine.shop.name))["next_hours"] == 2
    rows = [row for row in await machine.list_rows(mailing) if row["state"] == "pending"]
    assert all(row["due_at"] > now and row["expires_at"] - row["due_at"] <= timedelta(hours=3) for row in rows)
    assert {row["id"] for row in await machine.list_rows(mailing)} == ids


async def test_mail_that_expired_with_its_hours_gets_another_round_until_the_mailing_is_over(machine: Machine) -> None:
    now = datetime.now(UTC)
    await machine.add_contacts(2)
    hours = make_hours(now - timedelta(hours=1), 3)
    mailing = await machine.begin(hours=hours, finish_at=(now + timedelta(hours=30)).isoformat())
    await machine.engine.start(machine.shop.name)
    first = await machine.drain()
    assert all(mail.expires_at <= now + timedelta(hours=2.1) for mail in first)
    await machine.settle(first, BulkState.EXPIRED, "expired")
    assert (await machine.engine.finish(machine.shop.name))["finished"] == 0
    rows = await machine.list_rows(mailing)
    assert [row["round"] for row in rows] == [1, 1]
    assert not {row["id"] for row in rows} & {mail.id for mail in first}
    await machine.pass_time(26 * 3600)  # within its hours of the second day
    await machine.engine.send(machine.shop.name)
    await machine.database.fetch("UPDATE scheduler.bulk_mail SET due_at = now() WHERE state = 'pending'")
    second = await machine.drain()
    await machine.settle(second, BulkState.EXPIRED, "expired")
    await machine.pass_time(5 * 3600)
    assert (await machine.engine.finish(machine.shop.name))["finished"] == 1
    assert await machine.count(mailing) == {"expired": 2}


async def test_what_never_left_fails_when_the_mailing_is_over(machine: Machine) -> None:
    await machine.add_contacts(4)
    finish = datetime.now(UTC) + timedelta(hours=1)
    mailing = await machine.begin(finish_at=finish.isoformat(), rate=2)
    await machine.engine.start(machine.shop.name)
    taken = await machine.take()
    assert 1 <= len(taken) <= 2
    await machine.do(mailing, "pause")
    await machine.pass_time(3601)
    assert await machine.take() == []
    assert (await machine.engine.finish(machine.shop.name)) == {
        "never_sent": 4 - len(taken),
        "finished": 0,
        "cancelled": 0,
    }
    await machine.settle(taken)
    assert (await machine.engine.finish(machine.shop.name))["finished"] == 1
    assert await machine.count(mailing) == {"sent": len(taken), "expired": 4 - len(taken)}
    failed = await machine.shop.ask("GET", f"/v1/mailings/{mailing['id']}/recipients?state=fail", expect=200)
    assert {each["reason"] for each in failed["data"]} == {"expired"}
    refused = await machine.do(mailing, "retry", expect=422)
    assert refused["errors"][0]["pointer"] == "/finish_at"
    await machine.do(mailing, "retry", {"finish_at": None})
    assert (await machine.engine.start(machine.shop.name))["next_round"] == 4 - len(taken)
    await machine.pass_time(10)
    assert len(await machine.take()) == 2  # it is not paused any more


async def test_silent_mail_goes_out_again_under_its_id_while_results_come_back(machine: Machine) -> None:
    await machine.add_contacts(6)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    first = await machine.drain()
    await machine.settle(first[:2])
    for _ in range(4):  # results come all the time
        await machine.pass_time(200)
        await machine.engine.start(machine.shop.name)
        await machine.database.fetch("UPDATE scheduler.bulk_lane SET result_at = now()")
    rows = await machine.list_rows(mailing)
    assert [row["repeats"] for row in rows if row["state"] != "sent"] == [1, 1, 1, 1]
    again = await machine.drain()
    assert {mail.id for mail in again} == {mail.id for mail in first[2:]}
    await machine.pass_time(700)
    await machine.database.fetch("UPDATE scheduler.bulk_lane SET result_at = now()")
    await machine.database.fetch("UPDATE scheduler.bulk_window SET heard_at = now()")
    assert (await machine.engine.start(machine.shop.name))["repeated"] == 0  # twice as long the second time
    await machine.settle(again)
    assert await machine.count(mailing) == {"sent": 6}


async def test_nothing_is_repeated_while_it_is_paused_or_no_result_comes_back(machine: Machine) -> None:
    await machine.add_contacts(5)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    await machine.drain()
    for _ in range(12):  # the relay is away for an hour
        await machine.pass_time(300)
        assert (await machine.engine.start(machine.shop.name))["repeated"] == 0
    await machine.settling.release_stale(timedelta(minutes=5))
    rows = await machine.list_rows(mailing)
    await machine.settling.settle([Result(str(rows[0]["id"]), BulkState.SENT, 1)])
    assert (await machine.engine.start(machine.shop.name))["repeated"] == 0  # the others are about to come
    await machine.do(mailing, "pause")
    await machine.database.fetch("UPDATE scheduler.bulk_window SET heard_since = now() - interval '1 day'")
    assert (await machine.engine.start(machine.shop.name))["repeated"] == 0
    await machine.do(mailing, "resume")
    assert (await machine.engine.start(machine.shop.name))["repeated"] == 4


async def test_processes_keep_to_a_mailings_rate_together(machine: Machine, module_database_url: str) -> None:
    await machine.add_contacts(45)
    other = Database(module_database_url)
    began = (await other.fetch("SELECT clock_timestamp() AS at"))[0]["at"]
    await machine.begin(rate=10)
    await machine.engine.start(machine.shop.name)
    second = Machine(machine.shop)
    second.pacing = PacingStore(other)
    taken = 0
    while taken < 12:
        rounds = await asyncio.gather(machine.take(), second.take())
        taken += sum(map(len, rounds))
    ended = (await other.fetch("SELECT clock_timestamp() AS at"))[0]["at"]
    await other.close()
    assert taken <= 10 * (ended - began).total_seconds() + 1


async def test_a_mailing_goes_slower_and_faster_while_it_runs(machine: Machine) -> None:
    await machine.add_contacts(30)
    mailing = await machine.begin(rate=20)
    await machine.engine.start(machine.shop.name)
    await machine.pass_time(10)
    await machine.change(mailing, rate=3)
    assert len(await machine.drain()) == 3  # what had gathered by the rate before does not count
    await machine.pass_time(1)
    assert len(await machine.drain()) == 3
    await machine.do(mailing, "pause")
    await machine.change(mailing, rate=10)
    await machine.do(mailing, "resume")
    await machine.pass_time(1)
    assert len(await machine.drain()) == 10
    await machine.change(mailing, rate=None)
    assert len(await machine.drain()) == 14


async def test_an_end_that_is_moved_holds_for_all_that_has_not_left(machine: Machine) -> None:
    await machine.add_contacts(4)
    now = datetime.now(UTC).replace(microsecond=0)
    mailing = await machine.begin(finish_at=(now + timedelta(hours=9)).isoformat(), rate=2)
    await machine.engine.start(machine.shop.name)
    await machine.take()
    sooner = now + timedelta(hours=1)
    await machine.change(mailing, finish_at=sooner.isoformat())
    await machine.pass_time(10)
    [mail, _] = await machine.take()
    assert mail.expires_at == sooner - timedelta(seconds=10)
    await machine.pass_time(3600)
    assert await machine.take() == []
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    await machine.change(mailing, finish_at=later.isoformat())
    [mail] = await machine.take()
    assert mail.expires_at == later
    assert (await machine.read(mailing))["counts"]["pending"] == 4


async def test_hours_that_begin_after_the_end_count_once_that_is_later(machine: Machine) -> None:
    await machine.add_contacts(1)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    begin, end = ((now + timedelta(hours=hours)) for hours in (2, 5))
    hours = {"from": f"{begin:%H:%M}", "to": f"{end:%H:%M}", "timezone": "UTC"}
    mailing = await machine.begin(hours=hours, finish_at=(now + timedelta(hours=1)).isoformat())
    await machine.engine.start(machine.shop.name)
    await machine.change(mailing, finish_at=(now + timedelta(hours=4)).isoformat())
    await machine.pass_time(2.5 * 3600)
    await machine.engine.finish(machine.shop.name)
    [mail] = await machine.take()
    assert mail.expires_at == now + timedelta(hours=1.5)


async def test_a_mailing_is_started_paused_and_resumed_once(machine: Machine) -> None:
    await machine.add_contacts(1)
    mailing = await machine.shop.create(content={**CONTENT})
    for action in ("pause", "resume", "cancel", "retry"):
        refused = await machine.do(mailing, action, expect=409)
        assert refused["type"].endswith("mailing-state")
    assert (await machine.do(mailing, "start"))["state"] == "scheduled"
    assert (await machine.do(mailing, "start"))["state"] == "scheduled"
    asked = await machine.database.fetch(
        "SELECT state, task_id FROM scheduler.occurrence WHERE account = $1", machine.shop.name
    )
    assert [row["state"] for row in asked] == ["ready"]
    assert asked[0]["task_id"]
    names = await machine.database.fetch(
        "SELECT name, job_name FROM scheduler.task WHERE account = $1 ORDER BY id", machine.shop.name
    )
    assert [row["name"] for row in names] == ["start_mailing", "send_message", "finish_mailing"]
    await machine.engine.start(machine.shop.name)
    for action, state in (("pause", "paused"), ("pause", "paused"), ("resume", "running"), ("resume", "running")):
        assert (await machine.do(mailing, action))["state"] == state
    for action in ("cancel", "cancel"):
        assert (await machine.do(mailing, action))["state"] == "cancelled"
    await machine.do(mailing, "start", expect=409)


async def test_a_mailing_that_waits_for_its_time_begins_then_and_cancelled_never(machine: Machine) -> None:
    await machine.add_contacts(1)
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    mailing, other = await machine.begin(start_at=later), await machine.begin(start_at=later)
    cancelled = await machine.do(other, "cancel")
    assert cancelled["finished_at"]
    assert (await machine.engine.start(machine.shop.name))["started"] == 0
    await machine.pass_time(3601)
    assert (await machine.engine.start(machine.shop.name))["started"] == 1
    assert (await machine.read(mailing))["state"] == "running"


async def test_those_who_unsubscribe_are_skipped_until_their_mail_has_left(machine: Machine) -> None:
    first, second, third, *_ = await machine.add_contacts(5)
    await machine.unsubscribe(first)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    assert await machine.count(mailing) == {"pending": 4, "skipped": 1}
    await machine.unsubscribe(second)
    taken = await machine.drain()
    assert await machine.count(mailing) == {"queued": 3, "skipped": 2}
    shown = await machine.shop.ask("GET", f"/v1/mailings/{mailing['id']}/recipients?state=skipped", expect=200)
    assert {(each["reason"], each["final"]) for each in shown["data"]} == {("unsubscribed", True)}
    await machine.unsubscribe(third)  # too late: a repeat may not say that he got none
    await machine.database.fetch("UPDATE scheduler.bulk_mail SET state = 'pending' WHERE state = 'queued'")
    await machine.database.fetch("UPDATE scheduler.bulk_lane SET pending = queued, queued = 0")
    await machine.database.fetch("UPDATE scheduler.bulk_window SET in_flight = 0")
    assert {mail.id for mail in await machine.drain()} == {mail.id for mail in taken}
    await machine.settle(taken)
    assert await machine.count(mailing) == {"sent": 3, "skipped": 2}
    assert (await machine.engine.finish(machine.shop.name))["finished"] == 1


async def test_whoever_unsubscribes_after_his_mail_failed_gets_no_next_one(machine: Machine) -> None:
    recipients = await machine.add_contacts(3)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    await machine.settle(await machine.drain(), BulkState.FAILED, "rejected")
    await machine.unsubscribe(recipients[0])
    await machine.do(mailing, "retry")
    await machine.engine.start(machine.shop.name)
    assert len(await machine.drain()) == 2
    assert await machine.count(mailing) == {"queued": 2, "skipped": 1}


async def test_of_two_who_renew_the_second_leaves_the_retry_to_the_first(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.scheduler.mailings.course.round_store._PORTION", 2)
    await machine.add_contacts(6)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    await machine.settle(await machine.drain(), BulkState.FAILED, "rejected")
    await machine.do(mailing, "retry")
    first, renew = Machine(machine.shop), machine.rounds.renew

    async def renew_after_another(*args: Any) -> int:
        assert await first.rounds.renew(*args) == 2  # and dies
        return await renew(*args)

    monkeypatch.setattr(machine.rounds, "renew", renew_after_another)
    assert (await machine.engine.start(machine.shop.name))["next_round"] == 0
    assert (await first.engine.finish(machine.shop.name))["finished"] == 0
    assert (await first.engine.start(machine.shop.name))["next_round"] == 4
    assert await machine.count(mailing) == {"pending": 6}


async def test_a_retry_moves_the_end_as_a_change_does_also_of_mail_that_waits(machine: Machine) -> None:
    await machine.add_contacts(4)
    finish = datetime.now(UTC) + timedelta(hours=1)
    mailing = await machine.begin(finish_at=finish.isoformat(), rate=1)
    await machine.engine.start(machine.shop.name)
    [taken] = await machine.take()
    await machine.settle([taken], BulkState.FAILED, "rejected")
    over = {"finish_at": (finish - timedelta(hours=2)).isoformat()}
    for refused in (await machine.do(mailing, "retry", over, expect=422), await machine.change(mailing, 422, **over)):
        assert refused["errors"][0]["pointer"] == "/finish_at"
    sooner = {"finish_at": (finish - timedelta(minutes=30)).isoformat()}
    await machine.do(mailing, "retry", sooner)
    await machine.pass_time(1801)
    assert await machine.take() == []
    await machine.change(mailing, finish_at=None)
    await machine.pass_time(3601)
    await machine.engine.start(machine.shop.name)
    await machine.database.fetch("UPDATE scheduler.bulk_lane SET rate = NULL")
    assert len(await machine.drain()) == 4


async def let_repeat(machine: Machine) -> None:
    """What has left is to leave once more."""
    await machine.database.fetch("UPDATE scheduler.bulk_mail SET state = 'pending' WHERE state = 'queued'")
    await machine.database.fetch("UPDATE scheduler.bulk_lane SET pending = pending + queued, queued = 0")
    await machine.database.fetch("UPDATE scheduler.bulk_window SET in_flight = 0")


async def test_of_a_cancelled_mailing_what_has_left_is_not_cancelled_even_if_it_was_to_leave_again(
    machine: Machine,
) -> None:
    await machine.add_contacts(3)
    mailing = await machine.begin(rate=1)
    await machine.engine.start(machine.shop.name)
    [taken] = await machine.take()
    await let_repeat(machine)
    await machine.do(mailing, "cancel")
    await machine.settling.cancel_lanes(100)
    assert await machine.count(mailing) == {"deferred": 1, "cancelled": 2}
    assert (await machine.engine.finish(machine.shop.name))["cancelled"] == 0
    await machine.settle([taken])
    assert await machine.count(mailing) == {"sent": 1, "cancelled": 2}
    assert (await machine.engine.finish(machine.shop.name))["cancelled"] == 1


async def test_what_had_left_and_never_left_again_is_tried_once_more_only_if_somebody_says_so(machine: Machine) -> None:
    await machine.add_contacts(2)
    mailing = await machine.begin(finish_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    await machine.engine.start(machine.shop.name)
    await machine.drain()
    await let_repeat(machine)
    await machine.do(mailing, "pause")
    await machine.pass_time(26 * 3600)
    assert (await machine.engine.finish(machine.shop.name))["never_sent"] == 2
    assert (await machine.do(mailing, "retry", {"finish_at": None}, expect=409))["unknown"] == 2
    await machine.do(mailing, "retry", {"finish_at": None, "unknown": True})
    assert (await machine.engine.start(machine.shop.name))["next_round"] == 2


async def test_what_was_given_up_may_have_been_sent_whatever_it_was_put_off_for(machine: Machine) -> None:
    await machine.add_contacts(1)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    await machine.settle(await machine.drain(), BulkState.DEFERRED, "deferred")
    await machine.pass_time(3 * 24 * 3600)
    await machine.settling.give_up(timedelta(days=1), 100)
    assert await machine.count(mailing) == {"expired": 1}
    assert (await machine.do(mailing, "retry", expect=409))["unknown"] == 1


async def test_after_a_silence_one_mail_finds_out_whether_results_come_back(machine: Machine) -> None:
    await machine.add_contacts(4)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    first = await machine.drain()
    await machine.pass_time(1)
    await machine.settle(first[:1])  # nothing that left later is missing, and nothing more comes
    repeated = 0
    again: list[QueuedMail] = []
    for _ in range(8):
        await machine.pass_time(200)
        repeated += (await machine.engine.start(machine.shop.name))["repeated"]
        again += await machine.drain()
    assert repeated == len(again) == 1
    await machine.settle(again)
    for _ in range(5):  # others' results come all the time
        await machine.pass_time(200)
        await machine.database.fetch("UPDATE scheduler.bulk_lane SET result_at = now()")
        repeated += (await machine.engine.start(machine.shop.name))["repeated"]
    assert repeated == 3
    assert await machine.count(mailing) == {"sent": 2, "pending": 2}


async def test_a_short_timeout_repeats_nothing_either_while_no_result_comes_back(machine: Machine) -> None:
    machine.engine._policy = EnginePolicy(timedelta(seconds=10), 1024 * 1024)
    await machine.add_contacts(2)
    await machine.begin()
    await machine.engine.start(machine.shop.name)
    await machine.drain()
    for _ in range(4):
        await machine.pass_time(12)
        assert (await machine.engine.start(machine.shop.name))["repeated"] == 0


async def test_whoever_takes_longer_than_his_lease_still_brings_an_audience_on(machine: Machine) -> None:
    await machine.add_contacts(5)
    mailing = await machine.begin()
    await machine.freezes.begin_due(machine.shop.name)
    slow = await machine.freezes.lease(machine.shop.name)
    await machine.database.fetch("UPDATE scheduler.mailing SET freeze_until = now() - interval '1 s'")
    other = await machine.freezes.lease(machine.shop.name)
    assert slow
    assert other
    assert await machine.engine._freeze(*slow) == 5
    assert await machine.engine._freeze(*other) == 0
    assert await machine.count(mailing) == {"pending": 5}


async def test_a_retry_brings_back_the_content_and_leaves_out_what_is_too_large(machine: Machine) -> None:
    await machine.add_contacts(1)
    await machine.shop.add_contact("large@example.org", "Ann", note="x" * 1500)
    machine.engine._policy = EnginePolicy(timedelta(seconds=600), 1500)
    mailing = await machine.begin()
    await machine.engine.start(machine.shop.name)
    assert await machine.count(mailing) == {"pending": 1, "failed": 1}
    await machine.settle(await machine.drain(), BulkState.FAILED, "rejected")
    await machine.database.fetch("DELETE FROM scheduler.bulk_content")
    await machine.do(mailing, "retry")
    await machine.engine.start(machine.shop.name)
    [again] = await machine.drain()
    assert again.content
    assert await machine.pacing.load_contents([(again.lane, again.content)])
    assert await machine.count(mailing) == {"queued": 1, "failed": 1}


async def test_mail_put_off_for_good_gets_another_round_where_that_is_wanted_until_the_end(machine: Machine) -> None:
    machine = Machine(machine.shop, repeat_failed=True)
    await machine.add_contacts(2)
    mailing = await machine.begin(finish_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    await machine.engine.start(machine.shop.name)
    one, other = await machine.drain()
    await machine.settle([one], BulkState.FAILED, "deferred")
    await machine.settle([other], BulkState.FAILED, "rejected")
    assert (await machine.engine.finish(machine.shop.name))["finished"] == 0
    assert await machine.count(mailing) == {"pending": 1, "failed": 1}
    await machine.pass_time(3601)
    assert await machine.engine.finish(machine.shop.name) == {"never_sent": 1, "finished": 1, "cancelled": 0}
