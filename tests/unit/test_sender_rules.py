"""The sender's pure rules: replies, claims, the ledger's row, the events it tells, the pauses between attempts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from unittest.mock import Mock, create_autospec
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.sender.claiming import Claiming
from services.sender.claims import Decision, Standing, decide
from services.sender.classify import Deferred, Failed, Outcome, Reply, Sent, Unknown, classify
from services.sender.ledger import MAX_UNKNOWNS, LedgerEntry, LedgerState, RecipientResult, defer_all, fail_all
from services.sender.message import BuiltMessage
from services.sender.parcel import Ending, Parcel
from services.sender.pausing import Pauses
from services.sender.results import Told, Writer, announce, announce_all
from services.sender.retries import RetryPolicy
from services.sender.store import Found, SenderStore
from services.sender.transmit import assess, pack
from services.sender.work import Work
from shared.events import EmailFailed, EmailRequested, EmailSent, EventType, format_time
from shared.states import FailureReason, RecipientState

NOW = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)
ID = UUID("018f5b1e-0000-7000-8000-00000000abcd")
POLICY = RetryPolicy()
MINUTE = timedelta(minutes=1)
OK = Reply(250, "2.0.0 queued as A1")
LATER = Reply(451, "4.3.0 later")
NO = Reply(550, "5.1.1 no such user")


# --- replies ---


@pytest.mark.parametrize(
    ("code", "text", "after_content", "kind"),
    [
        (250, "2.0.0 queued", True, Sent),
        (250, "ok", False, Deferred),  # nobody has the mail before its content
        (421, "4.3.2 closing", False, Deferred),
        (421, "4.3.2 closing", True, Deferred),
        (450, "4.2.1 mailbox busy", False, Deferred),
        (452, "4.5.3 too many recipients", False, Deferred),
        (552, "5.5.3 Too many recipients", False, Deferred),
        (552, "5.2.2 mailbox full", True, Failed),
        (550, "5.1.1 unknown", False, Failed),
        (554, "5.6.0 content refused", True, Failed),
        (599, "", False, Failed),
        (354, "go on", False, Deferred),
        (354, "go on", True, Unknown),
        (199, "", True, Unknown),
        (600, "", False, Deferred),
    ],
)
def test_a_reply_becomes_an_outcome(code: int, text: str, after_content: bool, kind: type[Outcome]) -> None:
    outcome = classify(Reply(code, text), content_written=after_content)
    assert type(outcome) is kind
    if isinstance(outcome, Failed):
        assert outcome.reason is FailureReason.REJECTED
    if isinstance(outcome, Deferred):
        unavailable = code == 421
        assert outcome.reason is (FailureReason.RELAY_UNAVAILABLE if unavailable else FailureReason.DEFERRED)
        assert str(code) in outcome.diagnostic


@pytest.mark.parametrize(
    ("text", "enhanced"),
    [
        ("5.1.1 no", "5.1.1"),
        ("no 5.1.1", None),
        ("", None),
        ("2.0.0", "2.0.0"),
        ("1.1.1 x", None),
        ("4.7.650 x", "4.7.650"),
    ],
)
def test_the_enhanced_code_stands_at_the_beginning(text: str, enhanced: str | None) -> None:
    assert Reply(550, text).enhanced == enhanced


def test_a_relays_words_are_kept_to_a_bound() -> None:
    assert len(str(Reply(550, "x" * 10_000))) == 500


# --- claims ---

OWN, OTHER = uuid4(), uuid4()


def expect(
    state: LedgerState, own: bool, lapsed: bool, due: bool, from_due: bool, cancelled: bool, over: bool
) -> Decision:
    """The rules again, as a person would tell them."""
    if state is LedgerState.CLAIMED and own:
        return Decision.TAKE if lapsed else Decision.GO_ON
    if state is LedgerState.CLAIMED:
        return Decision.TAKE_OVER if (lapsed, over) == (True, True) else Decision.PARK
    if state is LedgerState.RELEASED:
        return Decision.TAKE
    if state is LedgerState.SETTLED or not from_due:
        return Decision.ANNOUNCE
    cancellable = cancelled and state is LedgerState.DEFERRED
    return Decision.TAKE if due or cancellable else Decision.ANNOUNCE


def test_every_standing_has_one_decision() -> None:
    yes_no = (False, True)
    circumstances = product(yes_no, yes_no, yes_no, yes_no, yes_no)
    for state, own, (lapsed, due, from_due, cancelled, over) in product(LedgerState, yes_no, circumstances):
        token = (OWN if own else OTHER) if state is LedgerState.CLAIMED else None
        got = decide(
            Standing(state, token, lapsed, due), OWN, from_due=from_due, cancelled=cancelled, may_take_over=over
        )
        assert got is expect(state, own, lapsed, due, from_due, cancelled, over)


def test_a_settled_mail_is_never_taken_again() -> None:
    standing = Standing(LedgerState.SETTLED, None, True, True)
    assert decide(standing, OWN, from_due=True, cancelled=True, may_take_over=True) is Decision.ANNOUNCE


@pytest.mark.parametrize("digest", ["digest", "another"])
async def test_bulk_mail_whose_id_was_known_before_gets_a_result_that_the_scheduler_sees(digest: str) -> None:
    known = apply(entry(), {"a@x.org": Sent(OK)})
    known.echo = {"tags": ["first"]}
    store = create_autospec(SenderStore, instance=True, lease=timedelta(seconds=30), database=Mock(losses=0))
    store.claim.return_value = {ID: Found(False, False, frozenset(), NOW)}
    store.load.return_value = {ID: (known, Standing(LedgerState.SETTLED, None, True, False))}
    going_on: list[Work] = []
    claiming = Claiming(store, lambda _: False, going_on.extend)
    claiming.pauses = create_autospec(Pauses, instance=True, scopes={})
    fields = {"id": ID, "from": "s@x.org", "to": ["a@x.org"], "subject": "s", "text": "t", "paced": True}
    await claiming.claim_group([Work(EmailRequested.model_validate(fields), entry(digest=digest), None)])
    [work] = going_on
    told = announce(work.entry).completing
    assert told and (told.data["paced"], told.data["tags"]) == (True, ["first"])


# --- the ledger's row ---


def entry(count: int = 1, **fields: object) -> LedgerEntry:
    made = LedgerEntry(ID, "default", "digest", f"<{ID}@x.org>", count, NOW, NOW + timedelta(hours=72))
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def apply(row: LedgerEntry, outcomes: dict[str, Outcome], *, hold: bool = False, now: datetime = NOW) -> LedgerEntry:
    row.apply(outcomes, now, POLICY, relay="relay:25", hold=hold)
    return row


def test_all_final_settles() -> None:
    row = apply(entry(2), {"a@x.org": Sent(OK), "b@x.org": Failed(NO, str(NO))})
    assert (row.state, row.retry_at) == (LedgerState.SETTLED, None)
    assert row.results["a@x.org"] == RecipientResult(
        "a@x.org", RecipientState.SENT, 1, "2026-01-31T09:00:00.000Z", str(OK), 250, "2.0.0", "relay:25"
    )
    assert row.results["b@x.org"].reason is FailureReason.REJECTED


def test_a_deferral_waits_its_turn_and_only_the_rest_is_pending() -> None:
    row = apply(entry(2), {"a@x.org": Sent(OK), "b@x.org": Deferred(LATER, str(LATER))})
    assert (row.state, row.retry_at, row.due_at) == (LedgerState.DEFERRED, NOW + MINUTE, NOW + MINUTE)
    assert row.pending_of(["a@x.org", "b@x.org"]) == ["b@x.org"]
    row.attempt = 2
    apply(row, {"b@x.org": Sent(OK)})
    assert row.state is LedgerState.SETTLED
    assert [(each.address, each.attempt) for each in row.results.values()] == [("a@x.org", 1), ("b@x.org", 2)]


def test_a_retry_never_lies_behind_the_expiry() -> None:
    row = apply(entry(expires_at=NOW + timedelta(seconds=20)), {"a@x.org": Deferred(None, "away")})
    assert row.retry_at == NOW + timedelta(seconds=20)


def test_an_unknown_outcome_is_tried_at_once_then_with_the_delays_then_held() -> None:
    row = entry()
    pauses = []
    for attempt in range(1, MAX_UNKNOWNS + 1):
        row.attempt = attempt
        apply(row, {"a@x.org": Unknown("no reply")})
        assert row.state is LedgerState.DEFERRED
        assert row.results["a@x.org"].state is RecipientState.DEFERRED
        assert row.retry_at is not None
        pauses.append(row.retry_at - NOW)
    assert pauses == [timedelta(0), 5 * MINUTE, 15 * MINUTE]
    row.attempt = 4
    apply(row, {"a@x.org": Unknown("no reply")})
    assert (row.state, row.retry_at, row.due_at) == (LedgerState.HELD, None, row.expires_at)
    assert row.results["a@x.org"].state is RecipientState.UNKNOWN


def test_with_hold_an_unknown_recipient_waits_for_an_operator_and_the_deferred_one_goes_on() -> None:
    both = ["a@x.org", "b@x.org"]
    row = apply(entry(2), {"a@x.org": Unknown("no reply"), "b@x.org": Deferred(LATER, "x")}, hold=True)
    assert row.state is LedgerState.DEFERRED
    assert (row.pending_of(both), row.open_of(both)) == (["b@x.org"], both)
    row.attempt = 2
    apply(row, {"b@x.org": Sent(OK)}, hold=True)
    assert (row.state, row.retry_at, row.due_at) == (LedgerState.HELD, None, row.expires_at)
    assert (row.pending_of(both), row.open_of(both)) == ([], ["a@x.org"])


def test_a_thousand_long_replies_fit_into_one_record() -> None:
    everybody = [f"u{number}@x.org" for number in range(1000)]
    refused = Failed(Reply(550, "ж" * 500), "ж" * 500)
    row = apply(entry(1000), dict.fromkeys(everybody, refused))
    told = announce(row)
    assert told.completing is not None
    assert len(told.completing.to_json()) < 1024 * 1024


@pytest.mark.parametrize("outcome", [Sent(OK), Failed(NO, "x", FailureReason.EXPIRED)])
def test_a_held_mail_settles_when_its_outcome_comes(outcome: Outcome) -> None:
    row = apply(entry(), {"a@x.org": Unknown("no reply")}, hold=True)
    row.attempt = 2
    assert apply(row, {"a@x.org": outcome}).state is LedgerState.SETTLED


# --- the events ---

ADDRESSES = [f"u{n}@x.org" for n in range(4)]


def stored(row: LedgerEntry) -> LedgerEntry:
    """Through the database and back."""
    results = [RecipientResult.from_json(each) for each in orjson.loads(orjson.dumps(row.list_results()))]
    return replace(row, echo=orjson.loads(orjson.dumps(row.echo)), results={each.address: each for each in results})


def derive(row: LedgerEntry, only_attempt: int | None = None) -> list[Told]:
    told = announce(row, only_attempt=only_attempt)
    return [*told.events, *([told.completing] if told.completing else [])]


def read(told: Told) -> EmailSent | EmailFailed:
    """As a consumer reads it; the models of the contract hold what was made without them."""
    model: type[EmailSent | EmailFailed] = EmailSent if told.type is EventType.SENT else EmailFailed
    event = model.model_validate_json(told.to_json())
    assert orjson.loads(told.to_json()).keys() <= {field.alias or name for name, field in model.model_fields.items()}
    assert str(event.event_id()) == told.event_id
    at = event.sent_at if isinstance(event, EmailSent) else event.failed_at
    assert at is not None
    assert format_time(at) == told.at
    return event


def tell(row: LedgerEntry, only_attempt: int | None = None) -> list[EmailSent | EmailFailed]:
    return [read(each) for each in derive(row, only_attempt)]


def summarise(event: EmailSent | EmailFailed) -> tuple[str, int, int, bool]:
    kind = "sent" if isinstance(event, EmailSent) else f"{event.reason}{'' if event.final else '?'}"
    return kind, event.attempt, event.outstanding, event.complete


@pytest.mark.parametrize("only_attempt", [None, 1, 2])
@pytest.mark.parametrize(
    "outcome",
    [
        Sent(OK),
        Failed(NO, str(NO)),
        Failed(None, "expired", FailureReason.EXPIRED),
        Deferred(LATER, str(LATER)),
        Unknown("gone"),
    ],
)
def test_the_short_way_for_one_recipient_tells_what_the_long_one_tells(
    outcome: Outcome, only_attempt: int | None
) -> None:
    row = entry(1)
    apply(row, {ADDRESSES[0]: outcome})
    assert announce(row, only_attempt=only_attempt) == announce_all(row, only_attempt)


@pytest.mark.parametrize("only_attempt", [None, 1, 2])
@pytest.mark.parametrize(
    "echo", [{}, {"paced": True, "batch_id": 'b"\u2028\x00', "metadata": {"é": [1]}, "tags": ["t"]}]
)
@pytest.mark.parametrize("words", ["2.0.0 Ok", 'queued as "\\é"'])
def test_what_is_written_from_shared_parts_says_what_the_event_says(
    words: str, echo: dict[str, object], only_attempt: int | None
) -> None:
    writer, rows = Writer(), [replace(entry(1), account=account, echo=echo) for account in ("a", "b", "a")]
    for row in rows:
        apply(row, {ADDRESSES[0]: Sent(Reply(250, words))})
        written, told = writer.write(row, only_attempt), announce(row, only_attempt=only_attempt).completing
        assert (written is None) == (told is None)
        if written and told:
            assert orjson.loads(written.value) == orjson.loads(told.to_json())
            assert (written.type, written.event_id, written.at) == (told.type, told.event_id, told.at)
            assert written.email_id.decode() == told.data["id"]


@pytest.mark.parametrize("outcome", [Failed(NO, str(NO)), Deferred(LATER, str(LATER)), Unknown("gone")])
def test_nothing_but_a_mail_that_was_sent_is_written_from_shared_parts(outcome: Outcome) -> None:
    row = entry(1)
    apply(row, {ADDRESSES[0]: outcome})
    assert Writer().write(row, None) is None
    several = entry(2)
    apply(several, dict.fromkeys(ADDRESSES[:2], Sent(OK)))
    assert Writer().write(several, None) is None


def test_sent_then_deferrals_then_finals_and_the_completing_one_last() -> None:
    row = entry(4)
    first: dict[str, Outcome] = {
        ADDRESSES[0]: Failed(None, "suppressed", FailureReason.SUPPRESSED),
        ADDRESSES[1]: Failed(NO, str(NO)),
        ADDRESSES[2]: Deferred(LATER, str(LATER)),
        ADDRESSES[3]: Sent(OK),
    }
    apply(row, first)
    assert [summarise(each) for each in tell(row)] == [
        ("sent", 1, 1, False),
        ("deferred?", 1, 1, False),
        ("rejected", 1, 1, False),
        ("suppressed", 1, 1, False),
    ]
    assert announce(row).completing is None
    row.attempt = 2
    apply(row, {ADDRESSES[2]: Sent(OK)})
    assert [summarise(each) for each in tell(row, only_attempt=2)] == [("sent", 2, 0, True)]
    assert [summarise(each) for each in tell(row)] == [
        ("sent", 1, 1, False),
        ("rejected", 1, 1, False),  # the superseded deferral is not told again
        ("suppressed", 1, 1, False),
        ("sent", 2, 0, True),
    ]
    told = announce(row).completing
    assert told is not None
    completing = read(told)
    assert completing.outcomes is not None
    assert [(each.address, each.state, each.attempt) for each in completing.outcomes] == [
        (ADDRESSES[0], "failed", 1),
        (ADDRESSES[1], "failed", 1),
        (ADDRESSES[2], "sent", 2),
        (ADDRESSES[3], "sent", 1),
    ]


def test_a_deferral_says_when_and_a_held_mail_does_not() -> None:
    (deferred,) = tell(apply(entry(), {ADDRESSES[0]: Deferred(LATER, str(LATER))}))
    assert isinstance(deferred, EmailFailed)
    assert (deferred.final, deferred.retry_at) == (False, NOW + MINUTE)
    assert deferred.recipients[0].model_dump() == {
        "address": ADDRESSES[0],
        "smtp_code": 451,
        "enhanced_code": "4.3.0",
        "diagnostic": "451 4.3.0 later",
    }
    (held,) = tell(apply(entry(), {ADDRESSES[0]: Unknown("no reply")}, hold=True))
    assert isinstance(held, EmailFailed)
    assert (held.reason, held.final, held.retry_at) == (FailureReason.UNKNOWN, False, None)


def test_the_echo_is_given_back() -> None:
    echo = {"callback": "https://x.org/?a=1", "metadata": {"k": [1]}, "tags": ["t"], "mailing_id": "m"}
    (sent,) = tell(apply(entry(echo=echo), {ADDRESSES[0]: Sent(OK)}))
    assert (sent.account, sent.callback, sent.metadata) == ("default", "https://x.org/?a=1", {"k": [1]})
    assert (sent.tags, sent.mailing_id, sent.digest) == (["t"], "m", "digest")


outcomes = st.sampled_from(
    [
        Sent(OK),
        Sent(Reply(250, "")),
        Deferred(LATER, str(LATER)),
        Deferred(None, "", FailureReason.RELAY_UNAVAILABLE),
        Failed(NO, str(NO)),
        Failed(None, "cancelled", FailureReason.CANCELLED),
        Unknown("no reply"),
    ]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(outcomes, min_size=4, max_size=4), min_size=1, max_size=6), st.booleans())
def test_what_was_told_is_derived_again_from_the_row(rounds: list[list[Outcome]], hold: bool) -> None:
    row = entry(4)
    told: dict[str, Told] = {}
    for attempt, drawn in enumerate(rounds, 1):
        row.attempt = attempt
        pending = row.pending_of(ADDRESSES)
        apply(row, dict(zip(pending, drawn, strict=False)), hold=hold, now=NOW + attempt * MINUTE)
        news = {each.event_id: each for each in derive(row, only_attempt=attempt)}
        assert len(news) == len(derive(row, only_attempt=attempt))
        assert not told.keys() & news.keys()
        told |= news
        row = stored(row)
        if row.state is LedgerState.SETTLED:
            break
    again = {each.event_id: each for each in derive(row)}
    assert again.keys() <= told.keys()
    for event_id, event in again.items():
        assert event.at == told[event_id].at
        assert orjson.loads(event.to_json()) == orjson.loads(told[event_id].to_json())
    for event_id, event in told.items():  # only superseded deferrals may be missing
        as_read = read(event)
        assert event_id in again or (isinstance(as_read, EmailFailed) and not as_read.final)
    completing = [each for each in map(read, told.values()) if each.complete]
    assert len(completing) == (row.state is LedgerState.SETTLED)
    assert all(each.outstanding == 0 for each in completing)


# --- retries ---


@pytest.mark.parametrize(("attempt", "minutes"), [(0, 1), (1, 1), (2, 5), (3, 15), (4, 60), (5, 60), (99, 60)])
def test_the_last_delay_repeats(attempt: int, minutes: int) -> None:
    assert POLICY.delay_after(attempt) == minutes * MINUTE


# --- between a mail and the wire ---


def work_on(*recipients: str, **fields: object) -> Work:
    mail = EmailRequested.model_validate({"from": "a@x.org", "to": recipients, "subject": "s", "text": "t"} | fields)
    return Work(mail, entry(len(recipients)), None, pending=list(recipients))


def end(work: Work, ending: Ending, *replies: Reply | None, answered: bool = False) -> dict[str, Outcome]:
    parcel = pack(work, BuiltMessage(b"x\r\n", False), lambda: True, lambda _: None)
    parcel.replies, parcel.content_answered = list(replies), answered
    parcel.end(ending, "gone")
    return assess(work, parcel)


def test_a_parcel_goes_to_those_still_pending_from_the_envelopes_sender() -> None:
    work = work_on("b@x.org", "c@x.org", envelope_from="bounces@x.org")
    work.pending = ["c@x.org"]
    parcel = pack(work, BuiltMessage(b"x\r\n", True), lambda: True, lambda _: None)
    assert isinstance(parcel, Parcel)
    assert (parcel.sender, parcel.recipients, parcel.needs_utf8) == (b"bounces@x.org", [b"c@x.org"], True)


def test_an_ending_means_an_outcome_for_each_recipient() -> None:
    b, c = "b@x.org", "c@x.org"
    gone = Deferred(None, "gone")
    unknown = Unknown("no reply after the content was written: gone")
    rejected = Failed(NO, str(NO))
    later = Deferred(LATER, str(LATER))
    assert end(work_on(b, c), Ending.ANSWERED, OK, NO, answered=True) == {b: Sent(OK), c: rejected}
    assert end(work_on(b, c), Ending.ANSWERED, LATER, NO) == {b: later, c: rejected}
    assert end(work_on(b, c), Ending.INTERRUPTED) == {b: gone, c: gone}
    assert end(work_on(b, c), Ending.INTERRUPTED, None, NO) == {b: gone, c: rejected}
    assert end(work_on(b, c), Ending.UNANSWERED, None, NO) == {b: unknown, c: rejected}
    assert end(work_on(b, c), Ending.UNANSWERED) == {b: unknown, c: unknown}
    in_parts = end(work_on(b, c), Ending.UNANSWERED, OK, None, answered=True)
    assert in_parts == {b: Sent(OK), c: unknown}, "only the second part had no answer"


def test_a_parcel_ends_once() -> None:
    ends: list[Parcel] = []
    parcel = pack(work_on("b@x.org"), BuiltMessage(b"x\r\n", False), lambda: True, ends.append)
    parcel.end(Ending.UNANSWERED, "first")
    parcel.end(Ending.ANSWERED, "second")
    assert len(ends) == 1
    assert (parcel.ending, parcel.diagnostic) == (Ending.UNANSWERED, "first")


def test_the_same_outcome_for_all() -> None:
    assert defer_all(["a", "b"], "x", FailureReason.INTERNAL_ERROR) == dict.fromkeys(
        ["a", "b"], Deferred(None, "x", FailureReason.INTERNAL_ERROR)
    )
    assert fail_all(["a"], "x", FailureReason.EXPIRED) == {"a": Failed(None, "x", FailureReason.EXPIRED)}
