"""A mailing, while each service in turn gets SIGKILL, it is paused and resumed, and the relay refuses some of it."""

import asyncio
import contextlib
import csv
import io
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from shared.access import ApiScope
from tests.chaos.judging import judge, reconcile
from tests.chaos.rig import SENDER_ADDRESS, Rig
from tests.chaos.verdict import Verdict
from tests.support.gateway import mint
from tests.support.supervised import Supervised

ENV = {"MILENA_PUBLIC_URL": "https://mail.example.com", "MILENA_RELEASE_LEASE_S": "5"}
_CONTENT = {
    "from": SENDER_ADDRESS,
    "subject": "Hello {{ name }}",
    "text": "Dear {{ name }}, spring is here.\n\nUnsubscribe: {{ unsubscribe_url }}\n",
}
_REFUSED, _LATER = 2, 5  # percent of the addresses
_PAUSES, _PAUSED_S = (15, 40, 65), 3.0
_DOT_DELAY_S = 0.01  # so that a sender's death finds mails at the relay that have no answer yet
_OVER = ("finished", "cancelled")


class Mood:
    """The relay's: some addresses it never takes, some not at once."""

    def __init__(self) -> None:
        self._put_off: set[str] = set()

    def answer(self, step: str, argument: str) -> str | None:
        """As a script wants it."""
        if step != "rcpt":
            return None
        lot = draw(argument)
        if lot < _REFUSED:
            return "550 5.1.1 no such user"
        if lot < _REFUSED + _LATER and argument not in self._put_off:
            self._put_off.add(argument)
            return "451 4.2.1 try again later"
        return None


def draw(address: str) -> int:
    """The same number from 0 to 99 for the same address."""
    return zlib.crc32(address.encode()) % 100


class Keeper:
    """Whoever keeps the mailing: asks again while the API is away."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer, once there is one that is not an outage's."""
        for _ in range(600):
            try:
                answer = await self._client.request(method, path, **options)
                if answer.status_code < 500:
                    return answer.raise_for_status()
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)
        raise AssertionError(f"{method} {path} never was answered")

    async def import_contacts(self, addresses: Iterable[str]) -> None:
        """All of them, as one file."""
        rows = "address,name\r\n" + "".join(f"{address},{address.partition('@')[0]}\r\n" for address in addresses)
        await self.ask("POST", "/v1/contacts/import", content=rows, headers={"Content-Type": "text/csv"})

    async def start_mailing(self) -> str:
        """To everybody."""
        body = {"name": "Spring", "content": _CONTENT, "audience": {}, "unsubscribe": True}
        mailing = (await self.ask("POST", "/v1/mailings", json=body)).json()
        path = f"/v1/mailings/{mailing['id']}"
        await self.ask("POST", f"{path}/start")
        return path

    async def list_recipients(self, path: str) -> list[dict[str, str]]:
        """Everybody, as the API tells of him."""
        answer = await self.ask("GET", f"{path}/recipients", params={"format": "csv"})
        return list(csv.DictReader(io.StringIO(answer.text)))


async def send_a_mailing(
    rig: Rig, *, recipients: int = 100_000, every_s: float = 10.0, patience_s: float = 1800.0
) -> Verdict:
    """Everybody gets one mail but those whom the relay refuses, and of all of them it is told as it is."""
    rig.relay.script.answer, rig.relay.script.dot_delay_s = Mood().answer, _DOT_DELAY_S
    caller = await mint(rig.stack.database_url, SENDER_ADDRESS, scopes=[ApiScope.MAILINGS_ADMIN])
    api = await rig.start_other("services.scheduler", "api")
    victims = [
        api,
        await rig.start_other("services.scheduler", "worker"),
        await rig.start_sender(0),
        await rig.start_other("services.scheduler", "jobs"),
        await rig.start_other("services.gateway", "worker"),
        await rig.start_other("services.callback", "worker"),
    ]
    addresses = [f"u{number}@example.org" for number in range(recipients)]
    async with httpx.AsyncClient(base_url=api.process.url, headers=caller.headers, timeout=120) as client:
        keeper = Keeper(client)
        await keeper.import_contacts(addresses)
        path = await keeper.start_mailing()
        async with _killing(rig, victims, every_s):
            ended = await _run(keeper, path, recipients, patience_s)
        for each in victims:
            await each.wait_ready()
        told = await keeper.list_recipients(path)
    rig.accepted = {each["email_id"]: (each["address"],) for each in told if draw(each["address"]) >= _REFUSED}
    settled = await rig.wait_finished(60)
    percent = f"{_LATER} % put off, {_REFUSED} % refused"
    verdict = await judge(
        rig, f"a mailing to {recipients:,}, {percent}; each service in turn gets SIGKILL, three pauses"
    )
    verdict.require(settled, "the ledger has not settled everything")
    verdict.restarts = sum(each.restarts for each in victims) - rig.kills
    verdict.require(verdict.restarts == 0, f"{verdict.restarts} processes ended by themselves")
    _judge_ends(verdict, ended, told, addresses)
    [window] = await rig.fetch("SELECT in_flight FROM scheduler.bulk_window")
    verdict.require(window["in_flight"] == 0, f"{window['in_flight']} mails are in the window, and none on its way")
    await reconcile(rig, verdict)
    return verdict


async def _run(keeper: Keeper, path: str, recipients: int, patience_s: float) -> Any:
    """Until it is over, or for `patience_s`: gives the mailing. It is paused and resumed on its way."""
    pauses = list(_PAUSES)
    deadline = asyncio.get_running_loop().time() + patience_s
    while True:
        mailing = (await keeper.ask("GET", path)).json()
        is_late = asyncio.get_running_loop().time() > deadline
        if is_late or (mailing["state"] in _OVER and mailing.get("finished_at")):
            return mailing
        if pauses and mailing["counts"]["final"] * 100 >= pauses[0] * recipients:
            pauses.pop(0)
            await keeper.ask("POST", f"{path}/pause")
            await asyncio.sleep(_PAUSED_S)
            await keeper.ask("POST", f"{path}/resume")
        await asyncio.sleep(0.25)


@asynccontextmanager
async def _killing(rig: Rig, victims: list[Supervised], every_s: float) -> AsyncIterator[None]:
    """One after the other, for as long as this lasts."""

    async def kill() -> None:
        for victim in _in_turn(victims):
            await asyncio.sleep(every_s)
            await victim.wait_ready()
            if victim in rig.senders:
                with contextlib.suppress(AssertionError):  # there are none while the mailing is paused
                    await rig.wait_claims_open(timeout_s=_PAUSED_S)
            victim.kill()
            rig.kills += 1

    killing = asyncio.create_task(kill())
    try:
        yield
        assert not killing.done(), killing.exception()
    finally:
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)


def _in_turn(victims: list[Supervised]) -> Iterator[Supervised]:
    while True:
        yield from victims


def _judge_ends(verdict: Verdict, mailing: Any, told: list[dict[str, str]], addresses: list[str]) -> None:
    """What the API tells: the mailing is over, its counts are those of its rows, and each row says what happened."""
    refused = sum(draw(address) < _REFUSED for address in addresses)
    expected = {"pending": 0, "success": len(addresses) - refused, "fail": refused, "skipped": 0, "in_flight": 0}
    counts = {name: mailing["counts"][name] for name in expected}
    verdict.require(mailing["state"] == "finished", f"the mailing is {mailing['state']}")
    verdict.require(counts == expected, f"the mailing counts {counts}, and it is {expected}")
    verdict.require(sorted(each["address"] for each in told) == sorted(addresses), "somebody has no row, or two")
    wrong = [each for each in told if _describe(each) != _expect(each["address"])]
    verdict.require(not wrong, f"{len(wrong)} rows say what is not so: {Counter(map(_describe, wrong)).most_common(3)}")
    verdict.notes.append(f"counts: {mailing['counts']}; started {mailing['started_at']}, over {mailing['finished_at']}")


def _describe(row: dict[str, str]) -> tuple[str, str, str]:
    return row["state"], row["reason"], row["final"]


def _expect(address: str) -> tuple[str, str, str]:
    return ("fail", "rejected", "true") if draw(address) < _REFUSED else ("success", "", "true")
