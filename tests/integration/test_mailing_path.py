"""A mailing's whole path on real parts: started over HTTP, taken in, paced, sent, its results counted, finished."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.integration.test_scheduler_batches_live import read_facts
from tests.support.following import Follower
from tests.support.mailings import Account, open_world
from tests.support.servers import RealServers, run_apart
from tests.support.services import ServiceRunner
from tests.support.smtp import Script, SmtpServer, run_smtp_apart
from tests.support.stack import MASTER_SECRET, Stack

COUNT = 60
PUBLIC_URL = "https://mail.example.com"
CONTENT = {"from": "Shop <news@example.com>", "subject": "Hello {{ name }}", "text": "Your plan: {{ plan }}"}


_refused_once: set[str] = set()


def answer(step: str, argument: str) -> str | None:
    if step != "rcpt":
        return None
    if argument.startswith("fickle") and argument not in _refused_once:
        _refused_once.add(argument)
        return "550 5.2.1 mailbox disabled"
    return "550 5.1.1 no such user" if argument.startswith("nobody") else None


@pytest.fixture(scope="module")
def stack(real_servers: RealServers) -> Iterator[Stack]:
    prefix, database = real_servers.create_topics(), real_servers.create_database()
    yield Stack(real_servers.bootstrap_servers(), prefix, real_servers.postgres().database_url(database))
    real_servers.drop_database(database)
    real_servers.drop_topics(prefix)


@pytest.fixture(scope="module")
def relay(stack: Stack) -> Iterator[SmtpServer]:
    runner = ServiceRunner(stack.env() | {"MILENA_PUBLIC_URL": PUBLIC_URL}, preloaded=True)
    with run_smtp_apart(Script(answer)) as relay:
        started = [
            runner.start("services.scheduler", "worker"),
            runner.start("services.scheduler", "jobs"),
            runner.start("services.sender", "worker", env={"MILENA_SMTP_PORT": str(relay.port)}),
        ]
        try:
            for process in started:
                run_apart(process.wait_ready(60))
            yield relay
        finally:
            runner.stop_all()


@pytest.fixture
async def shop(stack: Stack) -> AsyncIterator[Account]:
    async with open_world(stack.database_url, master_secret=MASTER_SECRET, public_url=PUBLIC_URL) as world:
        yield await world.open()


async def wait_state(shop: Account, mailing: Any, state: str, timeout_s: float = 30) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        found = await shop.ask("GET", f"/v1/mailings/{mailing['id']}", expect=200)
        if found["state"] == state and (state not in ("finished", "cancelled") or "finished_at" in found):
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


async def test_everybody_of_the_audience_gets_one_and_it_is_known_who_did_not(shop: Account, relay: SmtpServer) -> None:
    for number in range(300):
        await shop.add_contact(f"ann{number}@example.org", "Ann", ("customer",), plan="pro")
    for number in range(3):
        await shop.add_contact(f"nobody{number}@example.org", "Nobody", ("customer",), plan="pro")
    for number in range(2):
        await shop.add_contact(f"poor{number}@example.org", "Poor", ("customer",))
    await shop.add_contact("other@example.org", "Other", plan="pro")
    mailing = await shop.create(content=CONTENT, audience={"tags": {"any": ["customer"]}})
    await shop.ask("POST", f"/v1/mailings/{mailing['id']}/start", expect=202)
    ended = await wait_state(shop, mailing, "finished")
    assert ended["recipients"] == 305
    assert {name: ended["counts"][name] for name in ("pending", "success", "fail", "skipped", "final")} == {
        "pending": 0,
        "success": 300,
        "fail": 5,
        "skipped": 0,
        "final": 305,
    }
    taken = Counter(address for each in list(relay.taken) for address in each.recipients)
    assert taken == {f"ann{number}@example.org": 1 for number in range(300)}
    failed = await shop.ask("GET", f"/v1/mailings/{mailing['id']}/recipients?state=fail", expect=200)
    reasons = Counter((each["address"][:4], each["reason"], each["final"]) for each in failed["data"])
    assert reasons == {("nobo", "rejected", True): 3, ("poor", "template_error", True): 2}
    assert any("550" in each["detail"] for each in failed["data"])
    expected = {
        "start_mailing": {"started": 1, "recipients": 305},
        "finish_mailing": {"finished": 1, "never_sent": 0},
    }
    deadline = time.monotonic() + 10  # a run ends a moment after what it did can be seen
    while (told := await read_results(shop)) != expected:
        assert time.monotonic() < deadline, told
        await asyncio.sleep(0.05)


async def test_only_those_whom_the_relay_refused_get_a_second_mail(shop: Account, relay: SmtpServer) -> None:
    addresses = [f"steady{number}@example.org" for number in range(20)] + ["fickle0@example.org", "fickle1@example.org"]
    for address in addresses:
        await shop.add_contact(address, "Ann", plan="pro")
    mailing = await shop.create(content=CONTENT)
    await shop.ask("POST", f"/v1/mailings/{mailing['id']}/start", expect=202)
    ended = await wait_state(shop, mailing, "finished")
    assert (ended["counts"]["success"], ended["counts"]["fail"]) == (20, 2)
    await shop.ask("POST", f"/v1/mailings/{mailing['id']}/retry", expect=202)
    ended = await wait_state(shop, mailing, "finished")
    assert (ended["counts"]["success"], ended["counts"]["fail"]) == (22, 0)
    taken = Counter(address for each in list(relay.taken) for address in each.recipients)
    assert {address: taken[address] for address in addresses} == dict.fromkeys(addresses, 1)
    asked = Counter(command for command in relay.commands if command.startswith("RCPT") and "fickle0" in command)
    assert sum(asked.values()) == 2


async def test_whoever_uses_the_link_in_his_mail_gets_no_other_mailing(shop: Account, relay: SmtpServer) -> None:
    for name in ("uma", "vic", "wim"):
        await shop.add_contact(f"{name}@example.org", name, plan="pro")
    content = {**CONTENT, "text": "Leave: {{ unsubscribe_url }}\n"}
    first = await shop.create(content=content, unsubscribe=True)
    await shop.ask("POST", f"/v1/mailings/{first['id']}/start", expect=202)
    await wait_state(shop, first, "finished")
    [mail] = [each.message for each in list(relay.taken) if each.recipients == ("uma@example.org",)]
    link = mail["List-Unsubscribe"].strip("<>")
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail.get_content().strip() == f"Leave: {link}"
    assert link.startswith(f"{PUBLIC_URL}/unsubscribe/")
    clicked = await shop.client.post(link.removeprefix(PUBLIC_URL), data={"List-Unsubscribe": "One-Click"})
    assert clicked.status_code == 200
    second = await shop.create(content=content, unsubscribe=True)
    await shop.ask("POST", f"/v1/mailings/{second['id']}/start", expect=202)
    ended = await wait_state(shop, second, "finished")
    assert (ended["counts"]["success"], ended["counts"]["skipped"]) == (2, 1)
    taken = Counter(each.recipients[0][:3] for each in list(relay.taken))
    assert {name: taken[name] for name in ("uma", "vic", "wim")} == {"uma": 1, "vic": 2, "wim": 2}
    counted = await shop.ask("GET", f"/v1/mailings/{first['id']}", expect=200)
    assert counted["counts"]["unsubscribed"] == 1


async def test_a_mailing_is_followed_to_its_end_through_a_restart_and_the_end_is_told(
    shop: Account, relay: SmtpServer, services: ServiceRunner, stack: Stack
) -> None:
    api = services.start("services.scheduler", "api")
    for number in range(COUNT):
        await shop.add_contact(f"fan{number}@example.org", "Fan", plan="pro")
    mailing = await shop.create(content=CONTENT, rate=COUNT // 2)
    await api.wait_ready()
    path, headers = f"/v1/mailings/{mailing['id']}", {"Authorization": f"Bearer {shop.secret}"}
    followers = [Follower(api.url, headers) for _ in range(2)]
    following = asyncio.gather(*(each.follow(f"{path}/events") for each in followers))
    await shop.ask("POST", f"{path}/start", expect=202)
    while not any(0 < percent < 100 for percent in followers[0].percents):
        await asyncio.sleep(0.05)
    api.kill()
    api.restart()
    await asyncio.wait_for(following, 30)
    for each in followers:
        last = each.messages[-1]
        assert each.percents == sorted(each.percents)
        assert (each.connections >= 2, each.close_code, each.percents[-1]) == (True, 1000, 100.0)
        assert len({message["id"] for message in each.messages}) == len(each.messages)
        assert (last["type"], last["data"]["state"]) == ("mailing.finished", "finished")
        assert last["data"]["counts"]["success"] == COUNT
    rates = [message["data"]["progress"].get("rate", 0) for message in followers[0].messages]
    assert any(rates)
    facts = await read_facts(stack, "mailing_id", mailing["id"])
    finished = [fact for kind, fact in facts if kind == "mailing.finished"]
    told = [fact["counts"] for fact in finished if fact["mailing_id"] == mailing["id"]]
    assert [(each["recipients"], each["sent"]) for each in told] == [(COUNT, COUNT)]


async def read_results(shop: Account) -> dict[str, dict[str, int]]:
    """What the runs of the account's tasks say they have done."""
    rows = await shop.database.fetch(
        """
        SELECT task.name, run.result FROM scheduler.task JOIN scheduler.occurrence AS run ON run.task_id = task.id
        WHERE task.account = $1 AND run.state = 'succeeded'
        """,
        shop.name,
    )
    told: dict[str, dict[str, int]] = {}
    for name, counted in (("start_mailing", ("started", "recipients")), ("finish_mailing", ("finished", "never_sent"))):
        results = [row["result"] for row in rows if row["name"] == name]
        told[name] = {each: sum(result[each] for result in results) for each in counted}
    return told
