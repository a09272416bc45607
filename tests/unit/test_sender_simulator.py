"""Where test mail ends: what each recipient is told, and what the table of a relay's answers makes of it."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.sender.classify import Deferred, Failed, Outcome, Reply, Sent, Unknown, tells_of_dead_address
from services.sender.ledger import LedgerEntry, LedgerState
from services.sender.message import BuiltMessage
from services.sender.parcel import Ending, Parcel
from services.sender.relay_settings import parse_relays
from services.sender.retries import RetryPolicy
from services.sender.simulator import SIMULATOR, find_reply, hasten, simulate
from services.sender.suppressing import find_dead_addresses
from services.sender.transmit import assess, pack
from services.sender.work import Work
from shared.events import BulkRequested, EmailRequested
from shared.states import FailureReason

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def send(*recipients: str, may_write: bool = True) -> tuple[Work, Parcel]:
    """A test mail to these recipients, simulated."""
    mail = EmailRequested.model_validate(
        {"id": uuid4(), "from": "a@x.org", "to": list(recipients), "subject": "s", "text": "t", "test": True}
    )
    assert mail.id
    entry = LedgerEntry(mail.id, "default", "d", "<m>", len(recipients), NOW, NOW + timedelta(days=1))
    work = Work(mail, entry, None, pending=mail.recipients)
    done: list[Parcel] = []
    parcel = pack(work, BuiltMessage(b"Subject: s\r\n\r\nt\r\n", False), lambda: may_write, done.append)
    simulate([parcel])
    assert done == [parcel], "it has its ending at once, and once"
    return work, parcel


def outcomes_of(*recipients: str) -> dict[str, Outcome]:
    return assess(*send(*recipients))


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        ("ann@x.org", Sent, "250 2.0.0 "),
        ("success@simulator.test", Sent, "250 2.0.0 "),
        ("bounce@simulator.test", Failed, "550 5.1.1 "),
        ("bounce+17@simulator.test", Failed, "550 5.1.1 "),
        ("Bounce@SIMULATOR.test", Failed, "550 5.1.1 "),
        ("bounce@sub.simulator.test", Sent, "250 "),
        ("bounce@x.org", Sent, "250 "),
        ("defer@simulator.test", Deferred, "451 4.4.1 "),
        ("hang@simulator.test", Unknown, "no reply after the content was written"),
    ],
)
def test_one_recipient_is_answered_by_its_address(address: str, kind: type[Outcome], words: str) -> None:
    ((_, outcome),) = outcomes_of(address).items()
    assert type(outcome) is kind
    said = str(outcome.reply) if isinstance(outcome, Sent) else outcome.diagnostic
    assert said.startswith(words)


def test_each_of_several_recipients_gets_its_own_answer() -> None:
    names = ("ann", "bounce", "defer", "hang")
    mixed = outcomes_of(*(f"{name}@simulator.test" for name in names))
    assert [type(each) for each in mixed.values()] == [Sent, Failed, Deferred, Unknown]
    refused = outcomes_of("bounce@simulator.test", "defer@simulator.test")
    assert [type(each) for each in refused.values()] == [Failed, Deferred]
    doubtful = outcomes_of("hang@simulator.test", "bounce@simulator.test", "hang+2@simulator.test")
    assert [type(each) for each in doubtful.values()] == [Unknown, Failed, Unknown]


def test_a_lapsed_claim_is_not_simulated() -> None:
    _, parcel = send("ann@x.org", may_write=False)
    assert (parcel.ending, parcel.replies) == (Ending.FORBIDDEN, [])


def test_a_simulated_bounce_suppresses_nobody() -> None:
    reply = find_reply("bounce@simulator.test")
    assert reply
    assert tells_of_dead_address(reply)
    for relay, dead in (("main", {("default", "bounce@simulator.test")}), (SIMULATOR, set())):
        work, parcel = send("bounce@simulator.test")
        work.entry.apply(assess(work, parcel), NOW, RetryPolicy(), relay=relay, hold=False)
        assert work.entry.state is LedgerState.SETTLED
        assert find_dead_addresses([work.entry]) == dead


def test_the_first_retry_of_test_mail_can_be_waited_for() -> None:
    quick = hasten(RetryPolicy())
    assert [quick.delay_after(each) for each in (1, 2, 3)] == [
        timedelta(seconds=5),
        timedelta(minutes=1),
        timedelta(minutes=5),
    ]
    assert hasten(RetryPolicy((timedelta(seconds=1),))).delay_after(1) == timedelta(seconds=1)


def test_no_relay_can_be_called_as_the_simulator() -> None:
    with pytest.raises(ValueError, match="test mail"):
        parse_relays('[{"name": "simulator", "host": "smtp.example.org"}]')


def test_a_test_mail_is_another_mail_than_a_real_one_with_its_id() -> None:
    content = {"from": "a@x.org", "subject": "s", "text": "t"}
    real, test = (
        EmailRequested.model_validate({**content, "to": "b@x.org", "test": each}).compute_digest()
        for each in (False, True)
    )
    assert real != test
    bulk = {**content, "bulk_id": uuid4(), "mails": [{"to": "b@x.org"}, {"to": "c@x.org"}]}
    for each in (False, True):
        mails = BulkRequested.model_validate({**bulk, "test": each}).list_mails()
        assert [mail.test for mail in mails] == [each, each]


def test_what_the_simulator_says_is_its_own_words() -> None:
    replies = [find_reply(f"{name}@simulator.test") for name in ("ann", "bounce", "defer")]
    assert all(isinstance(each, Reply) and "Simulated" in each.text for each in replies)
    assert FailureReason.REJECTED in {each.reason for each in outcomes_of("bounce@simulator.test").values()}  # type: ignore[union-attr]
