"""Test mail goes the whole way and reaches no relay: one running sender, whose relay is there and then away."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.support.events import SIMPLE, publish_json
from tests.support.operating import Operated, operate, wait_until
from tests.support.servers import RealServers

pytestmark = pytest.mark.asyncio(loop_scope="module")
STAGING = {"MILENA_SUPPRESS_AFTER_HARD_BOUNCE": "true", "MILENA_ALLOWED_RECIPIENT_DOMAINS": "example.org"}


class Door:
    """The relay's greeting: how often somebody came, and whether he was turned away."""

    def __init__(self) -> None:
        self.visits = 0
        self.shut = False

    def answer(self, step: str, argument: str) -> str | None:
        """The script's answer."""
        self.visits += step == "connect"
        return "DROP" if self.shut and step == "connect" else None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operated(real_servers: RealServers) -> AsyncIterator[Operated]:
    async with operate(real_servers, with_api=False, **STAGING) as running:
        yield running


@pytest.fixture
def door(operated: Operated) -> Door:
    found = Door()
    operated.relay.script.answer = found.answer
    return found


async def execute(operated: Operated, sql: str) -> None:
    connection = await asyncpg.connect(operated.stack.database_url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def test_each_recipient_gets_its_own_outcome_and_no_relay_hears_of_it(operated: Operated, door: Door) -> None:
    # elsewhere.test is no domain that real mail might go to.
    (mixed,) = await operated.publish(
        to=["ann@elsewhere.test", "bounce@simulator.test", "defer@simulator.test"], test=True
    )
    soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    (ending,) = await operated.publish(to="defer@simulator.test", expires_at=soon, test=True)
    (hanging,) = await operated.publish(to="hang@simulator.test", on_unknown="hold", test=True)
    bounces = await operated.publish(2, to="bounce@simulator.test", test=True)
    bulk = [str(uuid4()) for _ in range(2)]
    mails = [{"id": each, "to": f"{each}@example.org"} for each in bulk]
    content = {name: SIMPLE[name] for name in ("from", "subject", "text")}
    await publish_json(operated.stack, {**content, "mails": mails, "test": True})

    for each in bulk:
        (sent,) = await operated.wait_result(each, "sent")
        assert (sent.data["relay"], sent.data["test"]) == ("simulator", True)
    for each in bounces:  # the second one, too: no simulated bounce suppresses an address
        (bounced,) = await operated.wait_result(each, "rejected")
        assert bounced.data["recipients"][0]["diagnostic"].startswith("550 5.1.1 ")
    (unknown,) = await operated.wait_result(hanging, "unknown")
    assert (unknown.data["final"], unknown.data["test"]) == (False, True)
    await wait_until(lambda: len(operated.results[mixed]) >= 4, 15)  # two topics: the order of reading is nobody's
    (taken,), (refused,), (deferred, again, *_) = (
        [each.data for each in operated.results[mixed] if each.data.get("reason", "sent") == told]
        for told in ("sent", "rejected", "deferred")
    )
    assert (taken["recipients"], taken["test"]) == (["ann@elsewhere.test"], True)
    assert taken["response"].startswith("250 2.0.0 Simulated")
    assert (refused["recipients"][0]["address"], refused["test"]) == ("bounce@simulator.test", True)
    assert deferred["recipients"][0]["diagnostic"].startswith("451 4.")
    assert (deferred["attempt"], again["attempt"], again["test"]) == (1, 2, True)
    await wait_until(lambda: any(each.data["complete"] for each in operated.results[ending]), 15)
    last = operated.results[ending][-1].data
    assert (last["reason"], last["final"], last["outcomes"][0]["state"]) == ("expired", True, "failed")
    assert (door.visits, operated.relay.taken) == (0, [])


async def test_test_mail_flows_while_no_relay_does_and_real_mail_waits(operated: Operated, door: Door) -> None:
    door.shut = True
    (real,) = await operated.publish()
    async with httpx.AsyncClient(base_url=operated.sender.url) as client:
        for _ in range(100):
            if (await client.get("/readyz")).status_code == 503:
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("the relay was never found away")
        (sent,) = await operated.publish(test=True)
        (deferred,) = await operated.publish(to="defer@simulator.test", test=True)
        await operated.wait_result(sent, "sent")
        await operated.wait_result(deferred, "deferred", "deferred")
        assert operated.results[real] == []
        assert 'milena_relay_mails_total{outcome="sent",relay="simulator"}' in (await client.get("/metrics")).text
    door.shut = False
    (result,) = await operated.wait_result(real, "sent", timeout_s=20)
    assert result.data["relay"] != "simulator"
    assert "test" not in result.data


async def test_paused_test_mail_waits_as_any_mail_does(operated: Operated, door: Door) -> None:
    await execute(operated, "INSERT INTO sender.pause (account, tag, reason, paused_by) VALUES ('quiet', '', '', '')")
    await asyncio.sleep(0.8)
    (email_id,) = await operated.publish(account="quiet", test=True)
    await asyncio.sleep(0.8)
    assert operated.results[email_id] == []
    await execute(operated, "DELETE FROM sender.pause")
    await operated.wait_result(email_id, "sent")
    assert door.visits == 0
