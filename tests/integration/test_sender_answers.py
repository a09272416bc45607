"""Every answer a relay may give at each step, in the middle of a pipelined group: what comes of the mail, its other
recipients, and the next mail. One sender process meets them all; judged at the relay, on the topics, in the ledger and
in the read model."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from shared.events import new_email_id
from tests.support.events import Result, publish_json, read_results
from tests.support.services import ServiceRunner
from tests.support.smtp import Answer, Script, SmtpServer, run_smtp
from tests.support.stack import Stack

ENDLESS = "250-" + "x" * 70_000  # more than any reply
GOOD, BAD = "good", "bad"  # local parts; the relay's answer to RCPT is about the second


@dataclass(frozen=True)
class End:
    """What is to become of one recipient: state, reason, reply code and enhanced code."""

    state: str
    reason: str | None = None
    code: int | None = None
    enhanced: str | None = None


SENT = End("sent", None, 250, "2.0.0")
INTERRUPTED = End("deferred", "deferred")
UNKNOWN = End("unknown", "unknown")


def failed(code: int, enhanced: str | None = None) -> End:
    return End("failed", "rejected", code, enhanced)


def deferred(code: int, enhanced: str | None = None, reason: str = "deferred") -> End:
    return End("deferred", reason, code, enhanced)


@dataclass(frozen=True)
class Case:
    """`answer` is given at `step`, only the first time where it begins with `ONCE`. `good` is the end of the recipient
    it is not about, `bad` of the one it is about.

    `breaks`: the connection ends with it. `brakes`: the relay gets fewer mails from then on. `unasked`: the relay hears
    nothing of the mail.
    """

    step: str
    answer: str
    good: End
    bad: End
    breaks: bool = False
    brakes: bool = False
    unasked: bool = False
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        words = "".join(each if each.isalnum() else " " for each in self.answer[:24]).split()
        return "-".join([self.step, *words]).lower()


def both(step: str, answer: str, end: End, **options: Any) -> Case:
    return Case(step, answer, end, end, **options)


STORAGE = "452 4.3.1 Insufficient system storage"
CASES = [
    both("none", "nothing unusual", SENT),
    both("mail", "SPLIT 250 2.1.0 ok", SENT),
    both("dot", "SPLIT 250 2.0.0 queued", SENT),
    both("dot", "250-2.0.0 queued\r\n250 2.0.0 as A1", SENT),
    both("mail", "250-2.1.0 sender\r\n250-2.1.0 is\r\n250 2.1.0 fine", SENT),
    # MAIL
    both("mail", "550 5.7.1 sender refused", failed(550, "5.7.1")),
    both("mail", "553 5.1.8 no such domain", failed(553, "5.1.8")),
    both("mail", "552 5.3.4 too big", failed(552, "5.3.4")),
    both("mail", "451 4.3.0 later", deferred(451, "4.3.0"), brakes=True),
    both("mail", "421 4.3.2 closing", deferred(421, "4.3.2", "relay_unavailable"), breaks=True, brakes=True),
    both("mail", "DROP", INTERRUPTED, breaks=True),
    both("mail", "HANG", INTERRUPTED, breaks=True),
    both("mail", "HTTP/1.1 400 Bad Request", INTERRUPTED, breaks=True),
    both("mail", "354 go on", INTERRUPTED, breaks=True),
    # RCPT
    Case("rcpt", "550 5.1.1 no such user", SENT, failed(550, "5.1.1")),
    Case("rcpt", "550-5.1.1 no such\r\n550 5.1.1 user", SENT, failed(550, "5.1.1")),
    Case("rcpt", "SPLIT 553 5.1.3 bad address", SENT, failed(553, "5.1.3")),
    Case("rcpt", "450 4.2.0 Greylisted", SENT, deferred(450, "4.2.0")),
    Case("rcpt", "452 4.2.2 mailbox full", SENT, deferred(452, "4.2.2")),
    Case("rcpt", "452 4.5.3 too many recipients", SENT, deferred(452, "4.5.3")),
    Case("rcpt", "552 too many recipients", SENT, deferred(552)),
    Case("rcpt", "ONCE 452 4.5.3 too many recipients", SENT, SENT),
    Case("rcpt", "ONCE 552 too many recipients", SENT, SENT),
    Case("rcpt", "450 4.7.1 rate limited", SENT, deferred(450, "4.7.1"), brakes=True),
    both("rcpt-all", "550 5.1.1 no such user", failed(550, "5.1.1")),
    both("rcpt-all", "452 4.2.2 mailbox full", deferred(452, "4.2.2")),
    Case("rcpt", "421 4.7.0 bye", INTERRUPTED, deferred(421, "4.7.0"), breaks=True, brakes=True),
    Case("rcpt", "DROP", INTERRUPTED, INTERRUPTED, breaks=True),
    Case("rcpt", "HANG", INTERRUPTED, INTERRUPTED, breaks=True),
    Case("rcpt", "\x00\x01 garbage", INTERRUPTED, INTERRUPTED, breaks=True),
    Case("rcpt", ENDLESS, INTERRUPTED, INTERRUPTED, breaks=True),
    # DATA
    both("data", "554 5.5.1 no", failed(554, "5.5.1")),
    both("data", "452 4.2.2 later", deferred(452, "4.2.2")),
    both("data", "421 4.3.2 closing", deferred(421, "4.3.2", "relay_unavailable"), breaks=True, brakes=True),
    both("data", "DROP", INTERRUPTED, breaks=True),
    both("data", "HANG", INTERRUPTED, breaks=True),
    both("data", "250 what?", INTERRUPTED, breaks=True),
    # after the final dot
    both("dot", "554 5.6.0 content refused", failed(554, "5.6.0")),
    both("dot", "552 5.3.4 too big", failed(552, "5.3.4")),
    both("dot", "550 5.7.1 no\x00thing\x1b[2J", failed(550, "5.7.1")),
    both("dot", STORAGE, deferred(452, "4.3.1", "relay_unavailable"), brakes=True),
    both("dot", "451 4.2.0 later", deferred(451, "4.2.0")),
    both("dot", "421 4.3.2 closing", deferred(421, "4.3.2", "relay_unavailable"), breaks=True, brakes=True),
    both("dot", "DROP", UNKNOWN, breaks=True),
    both("dot", "LOSE", UNKNOWN, breaks=True),
    both("dot", "HANG", UNKNOWN, breaks=True),
    both("dot", "garbage", UNKNOWN, breaks=True),
    both("dot", "354 more, please", UNKNOWN, breaks=True),
    both("dot", ENDLESS, UNKNOWN, breaks=True),
]
INTERNATIONAL = {"reply_to": ["jörg@example.org"]}
WITH_SMTPUTF8 = both("none", "smtputf8", SENT, fields=INTERNATIONAL)
WITHOUT_SMTPUTF8 = both("none", "no smtputf8", failed(553, "5.6.7"), fields=INTERNATIONAL, unasked=True)

BEYOND_SIZE = both("none", "beyond size", failed(552, "5.3.4"), fields={"text": "x\n" * 20_000}, unasked=True)


@dataclass(frozen=True)
class Trial:
    """One case under way: its mail, and the one behind it."""

    case: Case
    domain: str
    mail_id: UUID
    next_id: UUID

    def mails(self) -> Iterator[dict[str, Any]]:
        content = {"subject": self.domain, "text": ".a line\n", "html": "<b>ü</b>", "on_unknown": "hold"}
        to = [f"{GOOD}@{self.domain}", f"{BAD}@{self.domain}"]
        yield content | {"id": str(self.mail_id), "from": f"a@{self.domain}", "to": to} | self.case.fields
        yield content | {"id": str(self.next_id), "from": f"b@{self.domain}", "to": [f"c@{self.domain}"]}

    def answer(self, step: str, local: str) -> Answer:
        """What the relay says at a step of the first mail; `local`: of the address the command names."""
        case = self.case
        if step == case.step or (step, case.step) == ("rcpt", "rcpt-all"):
            if (step in ("mail", "data") and local == "a") or step == "dot":
                return case.answer
            if step == "rcpt" and (local == BAD or (local == GOOD and case.step == "rcpt-all")):
                return case.answer
        return None

    def expected(self) -> dict[str, End]:
        return {f"{GOOD}@{self.domain}": self.case.good, f"{BAD}@{self.domain}": self.case.bad}


class Table:
    """The relay's script for all trials at once: each knows its own mails by their domain."""

    def __init__(self, name: str, cases: list[Case]) -> None:
        self.trials = [
            Trial(case, f"{name}{n}.example.org", new_email_id(), new_email_id()) for n, case in enumerate(cases)
        ]
        self._by_domain = {each.domain: each for each in self.trials}
        self._given: set[tuple[str, str]] = set()

    def answer(self, step: str, argument: str) -> Answer:
        local, _, domain = argument.strip("<>").rpartition("@")
        trial = self._by_domain.get(domain)
        if trial is None or (step == "dot" and local != str(trial.mail_id)):
            return None
        answer = trial.answer(step, local)
        if answer is None or not answer.startswith("ONCE "):
            return answer
        given = (step, argument) in self._given
        self._given.add((step, argument))
        return None if given else answer.removeprefix("ONCE ")


async def send(stack: Stack, table: Table) -> dict[str, list[Result]]:
    """Publish the table in one batch and wait for an event of every mail."""
    await publish_json(stack, *(mail for trial in table.trials for mail in trial.mails()), partition=0)
    wanted = {str(each) for trial in table.trials for each in (trial.mail_id, trial.next_id)}
    found: dict[str, list[Result]] = {}
    async with asyncio.timeout(60):
        while not wanted <= found.keys():
            results = sorted(await read_results(stack, count=0, timeout_s=1), key=_id_of)
            found = {key: list(group) for key, group in groupby(results, key=_id_of)}
    return found


def _id_of(result: Result) -> str:
    return str(result.data["id"])


async def read_rows(stack: Stack) -> tuple[dict[UUID, asyncpg.Record], dict[UUID, str]]:
    """The ledger's row and the read model's status of every mail."""
    connection = await asyncpg.connect(stack.database_url)
    try:
        ledger = {row["id"]: row for row in await connection.fetch("SELECT * FROM sender.ledger")}
        async with asyncio.timeout(20):
            while True:
                shown = await connection.fetch("SELECT id, status FROM gateway.emails WHERE status <> 'queued'")
                if len(shown) == len(ledger):
                    return ledger, {row["id"]: row["status"] for row in shown}
                await asyncio.sleep(0.1)
    finally:
        await connection.close()


# --- judging ---


def judge_ledger(trial: Trial, row: asyncpg.Record) -> list[str]:
    results = {each["address"]: each for each in orjson.loads(row["results"])}
    found = {
        address: End(each["state"], each.get("reason"), each.get("code"), each.get("enhanced"))
        for address, each in results.items()
    }
    faults = [] if found == trial.expected() else [f"ledger: {found}"]
    if any(each.code and not each.text for each in map(_Words, results.values())):
        faults.append("the relay's words are not kept")
    if row["attempt"] != 1:
        faults.append(f"attempt {row['attempt']}")
    states = {each.state for each in trial.expected().values()}
    state = "deferred" if "deferred" in states else "held" if "unknown" in states else "settled"
    if row["state"] != state:
        faults.append(f"the mail is {row['state']}, not {state}")
    return faults


class _Words:
    def __init__(self, stored: dict[str, Any]) -> None:
        self.code, self.text = stored.get("code"), stored.get("text")


def judge_events(trial: Trial, events: list[Result]) -> list[str]:
    told: dict[str, End] = {}
    for event in events:
        data = event.data
        if event.headers["ce_type"] == "email.sent":
            told |= dict.fromkeys(data["recipients"], SENT)
            continue
        state = "failed" if data["final"] else "unknown" if data["reason"] == "unknown" else "deferred"
        for each in data["recipients"]:
            told[each["address"]] = End(state, data["reason"], each.get("smtp_code"), each.get("enhanced_code"))
        if (state == "deferred") != ("retry_at" in data):
            return [f"retry_at of {data}"]
    faults = [] if told == trial.expected() else [f"events: {told}"]
    complete = {each.state for each in trial.expected().values()} <= {"sent", "failed"}
    if [each.data["complete"] for each in events].count(True) != complete:
        faults.append("the completing event")
    groups = {(each.state, each.reason) for each in trial.expected().values()}
    if len(events) != len(groups):
        faults.append(f"{len(events)} events for {groups}")
    return faults


def judge_status(trial: Trial, status: str) -> list[str]:
    states = {each.state for each in trial.expected().values()}
    wanted = "unknown" if "unknown" in states else "deferred" if "deferred" in states else "partially_sent"
    wanted = states.pop() if len(states) == 1 else wanted
    return [] if status == wanted else [f"status {status}, not {wanted}"]


def judge_next(trial: Trial, row: asyncpg.Record, events: list[Result], status: str) -> list[str]:
    """The mail behind it is sent, once, at its first attempt."""
    kinds = [(each.headers["ce_type"], each.data["attempt"], each.data["complete"]) for each in events]
    unhurt = (row["state"], row["attempt"], row["unknowns"], status) == ("settled", 1, 0, "sent")
    return [] if unhurt and kinds == [("email.sent", 1, True)] else [f"the next mail: {row['results']}, {kinds}"]


def judge_relay(trial: Trial, relay: SmtpServer) -> list[str]:
    """Who got what, how often, and over which connections."""
    copies = relay.deliveries()
    faults = []
    if copies[f"<{trial.next_id}@{trial.domain}>", f"c@{trial.domain}"] != 1:
        faults.append("the next mail is not at the relay once")
    kept_silently = trial.case.step == "dot" and trial.case.answer in ("DROP", "HANG", ENDLESS)
    for address, end in trial.expected().items():
        count = copies[f"<{trial.mail_id}@{trial.domain}>", address]
        if count != (end.state == "sent" or kept_silently):
            faults.append(f"{address} {count} times at the relay")
    first = {number for number, command in relay.journal if command.startswith(f"MAIL FROM:<a@{trial.domain}>")}
    then = [number for number, command in relay.journal if command.startswith(f"MAIL FROM:<b@{trial.domain}>")]
    if (then[-1] in first) is (trial.case.breaks or trial.case.unasked) or bool(first) is trial.case.unasked:
        faults.append(f"connections {first}, then {then}")
    return faults


async def judge(
    stack: Stack, tables: list[Table], relay: SmtpServer, events: dict[str, list[Result]]
) -> dict[str, list[str]]:
    ledger, shown = await read_rows(stack)
    faults = {}
    for trial in (trial for table in tables for trial in table.trials):
        mine, following = events[str(trial.mail_id)], events[str(trial.next_id)]
        faults[f"{trial.case.name} ({trial.domain})"] = [
            *judge_ledger(trial, ledger[trial.mail_id]),
            *judge_events(trial, mine),
            *judge_status(trial, shown[trial.mail_id]),
            *judge_next(trial, ledger[trial.next_id], following, shown[trial.next_id]),
            *judge_relay(trial, relay),
        ]
    return {name: found for name, found in faults.items() if found}


# --- the run ---

SETTINGS = {
    "MILENA_SMTP_CONNECTIONS": "1",
    "MILENA_SMTP_COMMAND_TIMEOUT": "0.8",
    "MILENA_SMTP_FINAL_DOT_TIMEOUT": "2",
    "MILENA_RETRY_DELAYS": "600",
}


async def test_every_answer_at_every_step_of_a_pipelined_group_and_in_lock_step(
    services: ServiceRunner, stack: Stack
) -> None:
    hanging = [each for each in CASES if each.answer == "HANG"]
    braking = [each for each in CASES if each.brakes]
    quick = [each for each in CASES if each not in (*hanging, *braking)]
    # What asks for fewer mails comes while there are many, so that few is not yet one a second.
    pipelined = Table("pipelined", [WITH_SMTPUTF8, *quick, *braking])
    lock_step = Table("lockstep", [WITHOUT_SMTPUTF8, *quick])
    silent = Table("silent", [BEYOND_SIZE, *hanging])
    services.start("services.gateway", "worker")
    async with run_smtp(Script(pipelined.answer)) as relay:
        env = {"MILENA_SMTP_PORT": str(relay.port), **SETTINGS}
        services.start("services.sender", "worker", env={**stack.env(), **env})
        events = await send(stack, pipelined)
        relay.script = Script(lock_step.answer, extensions=(), size=None)
        relay.drop_connections()
        events |= await send(stack, lock_step)
        relay.script = Script(silent.answer, size=20_000)
        relay.drop_connections()
        events |= await send(stack, silent)
        faults = await judge(stack, [pipelined, lock_step, silent], relay, events)
    assert not faults, "\n".join(f"{name}: {found}" for name, found in faults.items())
