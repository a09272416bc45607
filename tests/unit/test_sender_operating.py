"""The rules behind the operator's hand: which pause covers a mail, what a decision leads to, what a list may hold."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.bounding import Bound
from services.sender.classify import Failed, Reply, Sent, Unknown
from services.sender.ledger import LedgerEntry, LedgerState
from services.sender.pausing import EVERYTHING, Pauses, Scope
from services.sender.results import announce
from services.sender.retries import RetryPolicy
from services.sender.settling import Decided, Intent, find_refusal, pick_relay, read_intent, settle_by_word
from services.sender.store import Suppression, Waiting
from services.sender.suppressing import find_dead_addresses, normalise_address
from services.sender.suppression_list import BadRow, SuppressionReader, UnreadableList, split_lines, write_rows
from shared.due import DueRow
from shared.retrying import Unavailable
from shared.states import FailureReason

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
REJECTED = FailureReason.REJECTED


class Book:
    """Pauses, kept in a list."""

    def __init__(self, *scopes: Scope) -> None:
        self.scopes = list(scopes)
        self.away = False
        self.looked = 0

    async def list_scopes(self) -> list[Scope]:
        self.looked += 1
        if self.away:
            raise Unavailable
        return self.scopes

    async def park(self, works: object) -> None:
        raise AssertionError

    async def bring_back(self, room: int) -> int:
        return 0


async def look(pauses: Pauses, book: Book) -> None:
    """Let it look once."""
    before = book.looked
    await pauses.start()
    while book.looked == before:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    await pauses.stop()


async def test_the_widest_pause_covers_a_mail_and_outlives_an_outage() -> None:
    book = Book(Scope("shop", "news"))
    pauses = Pauses(book)
    changes: list[int] = []
    pauses.on_change = lambda: changes.append(1)
    assert pauses.everything, "before they are known nothing begins"
    await look(pauses, book)
    assert not pauses.everything
    assert pauses.find("shop", ["a", "news"]) == Scope("shop", "news")
    assert pauses.find("shop", ["a"]) is None
    assert pauses.find("another", ["news"]) is None
    book.scopes += [Scope("shop"), EVERYTHING]
    await look(pauses, book)
    assert (pauses.everything, pauses.find("any", [])) == (True, EVERYTHING)
    book.scopes.remove(EVERYTHING)
    await look(pauses, book)
    assert pauses.find("shop", ["news"]) == Scope("shop")
    book.away = True
    await look(pauses, book)
    assert pauses.find("shop", []) == Scope("shop")
    assert len(changes) == 3


class Scales:
    """Due rows, weighed as a test says."""

    def __init__(self, rows: int = 0, octets: int = 0) -> None:
        self.rows, self.octets = rows, octets

    async def count(self, limit: int) -> list[Waiting]:
        return [Waiting("deferred", min(self.rows, limit + 1), self.octets)]

    async def count_paused(self) -> Waiting:
        return Waiting("paused", 10**9, 10**12)


@pytest.mark.parametrize("kind", ["rows", "octets"])
async def test_the_bound_is_reached_by_rows_or_octets_and_left_a_little_below(kind: str) -> None:
    scales, room = Scales(), []
    bound = Bound(scales, rows=100, octets=100)
    bound.on_room = lambda: room.append(1)
    for amount, reached in ((99, False), (100, True), (150, True), (96, True), (94, False), (99, False)):
        setattr(scales, kind, amount)
        await bound.look()
        assert bound.reached is reached, amount
        assert (await bound.check() is None) is not reached
    assert room == [1]


def held(*recipients: str) -> LedgerEntry:
    entry = LedgerEntry(uuid4(), "shop", "d", "<m>", len(recipients), NOW, NOW + timedelta(hours=1))
    entry.apply(dict.fromkeys(recipients, Unknown("?")), NOW, RetryPolicy(), relay="r:25", hold=True)
    assert entry.state is LedgerState.HELD
    entry.attempt = 2
    return entry


@pytest.mark.parametrize(("intent", "told"), [(Intent.SENT, "email.sent"), (Intent.FAILED, "email.failed")])
def test_an_operators_word_ends_a_mail_with_one_completing_event(intent: Intent, told: str) -> None:
    entry = held("a@x.org", "b@x.org")
    row = DueRow(entry.id, uuid4(), {"intent": intent.value, "intent_note": "seen"})
    assert read_intent(row) is intent
    outcomes = settle_by_word(entry, ["a@x.org", "b@x.org"], row, intent)
    entry.apply(outcomes, NOW, RetryPolicy(), relay="r:25", hold=False)
    assert entry.state is LedgerState.SETTLED
    announcement = announce(entry, only_attempt=2)
    assert announcement.completing is not None
    assert announcement.completing.type == told
    assert announcement.completing.data["complete"] is True
    assert f"settled by an operator as {intent}: seen" in str(announcement.completing.data)


@pytest.mark.parametrize(
    ("known", "intent", "slug"),
    [
        (None, Intent.RESEND, "not-found"),
        (Decided("settled", 1, None, None), Intent.RESEND, "not-waiting"),
        (Decided("deferred", 2, Intent.RESEND, 1), Intent.RESEND, None),
        (Decided("settled", 2, Intent.SENT, 1), Intent.SENT, None),
        (Decided("settled", 2, Intent.SENT, 1), Intent.FAILED, "not-waiting"),
        (Decided("held", 1, Intent.SENT, 1), Intent.SENT, None),
        (Decided("held", 1, Intent.SENT, 1), Intent.RESEND, "decided-otherwise"),
    ],
)
def test_the_same_decision_may_be_asked_for_again_and_no_other(
    known: Decided | None, intent: Intent, slug: str | None
) -> None:
    refusal = find_refusal(known, intent)
    assert (refusal.slug if refusal else None) == slug


def bounced(outcomes: dict[str, Sent | Failed]) -> LedgerEntry:
    entry = LedgerEntry(uuid4(), "shop", "d", "<m>", len(outcomes), NOW, NOW + timedelta(hours=1))
    entry.apply(outcomes, NOW, RetryPolicy(), relay="r:25", hold=False)
    return entry


def refuse(code: int, text: str) -> Failed:
    reply = Reply(code, text)
    return Failed(reply, str(reply), REJECTED)


def test_only_an_address_that_is_named_dead_is_suppressed() -> None:
    sent = Sent(Reply(250, "ok"))
    dead, policy = refuse(550, "5.1.1 no such user"), refuse(550, "5.7.1 refused by policy")
    assert find_dead_addresses([bounced({"Ann@x.org": dead})]) == {("shop", "ann@x.org")}
    assert find_dead_addresses([bounced({"a@x.org": dead, "b@x.org": sent})]) == {("shop", "a@x.org")}
    assert find_dead_addresses([bounced({"a@x.org": policy}), bounced({"b@x.org": sent})]) == set()
    assert find_dead_addresses([bounced({"a@x.org": dead, "b@x.org": dead})]) == set(), "it may be about the mail"
    assert find_dead_addresses([bounced({"a@x.org": Failed(None, "suppressed", FailureReason.SUPPRESSED)})]) == set()


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (" Ann@Example.ORG ", "ann@example.org"),
        ("bob@Bücher.example", "bob@xn--bcher-kva.example"),
        ("Jörg@example.org", "jörg@example.org"),
    ],
)
def test_an_address_is_kept_as_the_claim_compares_it(written: str, kept: str) -> None:
    assert normalise_address(written) == kept


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@given(
    rows=st.lists(st.text("ab, ", max_size=20), max_size=8),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    size=st.integers(1, 7),
)
def test_lines_are_the_same_however_they_are_cut_and_ended(rows: list[str], end: bytes, size: int) -> None:
    text = end.join(row.encode() for row in rows)

    async def collect() -> list[bytes]:
        chunks = (text[start : start + size] for start in range(0, len(text), size))
        return [line async for line in split_lines(stream(*chunks))]

    assert asyncio.run(collect()) == (text.split(end) if text else [b""])


async def test_a_line_without_an_end_is_given_up_early() -> None:
    with pytest.raises(UnreadableList):
        async for _ in split_lines(stream(*[b"x" * 5000] * 3)):
            pass


@given(reason=st.text("ab,;\t\"' =ü€😀", max_size=50))
def test_what_was_written_can_be_read(reason: str) -> None:
    reason = reason.strip()
    entry = Suppression("shop", "ann@x.org", reason or "imported", NOW + timedelta(days=1))
    reader = SuppressionReader("default", NOW)
    assert reader.read(b"account,address,reason,until,created_at") is None
    assert reader.read(write_rows([entry]).removesuffix("\r\n").encode()) == entry


@given(line=st.binary(max_size=60))
def test_no_line_breaks_the_reader(line: bytes) -> None:
    reader = SuppressionReader("default", NOW)
    reader.read(b"address,until")
    assert isinstance(reader.read(line), BadRow | Suppression | None)


@pytest.mark.parametrize(
    ("results", "relay"),
    [
        ([], ""),
        ([("pending", "")], ""),
        ([("unknown", "main"), ("sent", "backup")], "main"),
        ([("unknown", "main"), ("unknown", "backup"), ("failed", "third")], "backup"),
        ([("deferred", "main"), ("unknown", "")], "main"),
    ],
)
def test_the_relay_that_may_have_a_mail_is_the_one_that_left_it_unknown(
    results: list[tuple[str, str]], relay: str
) -> None:
    assert pick_relay(results) == relay
