"""Staging safety, and when a deferred mail is tried again."""

from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from itertools import pairwise
from typing import Any
from uuid import UUID

import orjson
import pytest
from pydantic import ValidationError

from services.sender.classify import Deferred, Failed, Reply, Sent, Unknown
from services.sender.http_api import write_request
from services.sender.ledger import LedgerEntry
from services.sender.message import BuiltMessage, build_message, identify, name_message
from services.sender.parcel import Ending, Parcel
from services.sender.retries import RetryPolicy
from services.sender.safety import HEADER, OFF, Safety, allows
from services.sender.settings import WorkerSettings
from services.sender.transmit import assess, pack
from services.sender.work import Work
from shared.events import EmailRequested
from shared.states import FailureReason
from shared.templates import RenderedContent

REDIRECT = Safety(redirect_to="test@staging.org")
RECIPIENTS = [f"person{n:04}@a-rather-long-domain-name.example.org" for n in range(300)]


def begin(pending: list[str], safety: Safety) -> tuple[Work, Parcel]:
    mail = EmailRequested.model_validate({"from": "a@x.org", "to": pending, "subject": "s", "text": "t"})
    identity = identify(UUID(int=1), name_message(UUID(int=1), mail.from_), datetime(2026, 1, 1, tzinfo=UTC))
    message = build_message(mail, RenderedContent("s", "t", None), identity)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    work = Work(mail, LedgerEntry(UUID(int=1), "a", "d", "<m@x>", len(pending), now, now), None, pending=pending)
    return work, pack(work, message, lambda: True, lambda parcel: None, safety)


def test_with_nothing_set_everything_goes_where_it_is_meant_to() -> None:
    work, parcel = begin(["ann@x.org", "bob@y.org"], OFF)
    assert parcel.recipients == [b"ann@x.org", b"bob@y.org"]
    assert HEADER.encode() not in parcel.content
    assert OFF.refuse(work.pending) == {}
    assert OFF.list_notes() == {}


def test_a_redirected_mail_goes_to_one_address_and_says_whom_it_was_for() -> None:
    _, plain = begin(RECIPIENTS, OFF)
    _, parcel = begin(RECIPIENTS, REDIRECT)
    assert parcel.recipients == [b"test@staging.org"]
    assert parcel.content.endswith(plain.content)
    message = message_from_bytes(parcel.content, policy=default)
    assert [each.strip() for each in str(message[HEADER]).split(",")] == RECIPIENTS
    assert str(message["To"]).startswith(RECIPIENTS[0]), "the headers stay"
    assert all(len(line) <= 998 for line in parcel.content.split(b"\r\n"))


@pytest.mark.parametrize(
    ("ending", "reply", "kind"),
    [
        (Ending.ANSWERED, Reply(250, "ok"), Sent),
        (Ending.ANSWERED, Reply(550, "5.1.1 no"), Failed),
        (Ending.UNANSWERED, None, Unknown),
        (Ending.INTERRUPTED, None, Deferred),
    ],
)
def test_what_the_relay_says_of_the_one_address_is_everybodys_outcome(
    ending: Ending, reply: Reply | None, kind: type[Any]
) -> None:
    work, parcel = begin(["ann@x.org", "bob@y.org", "cid@z.org"], REDIRECT)
    parcel.replies, parcel.content_answered = [reply] if reply else [], reply is not None
    parcel.end(ending, "broken")
    outcomes = assess(work, parcel)
    assert list(outcomes) == work.pending
    assert {type(each) for each in outcomes.values()} == {kind}


def test_recipients_elsewhere_fail_for_good_and_the_diagnostic_names_the_setting() -> None:
    safety = Safety(allowed_domains=frozenset({"x.org", "*.y.org"}))
    refused = safety.refuse(["ann@X.org", "bob@z.org", "cid@mail.y.org", "dan@y.org", "eve@notx.org"])
    assert sorted(refused) == ["bob@z.org", "dan@y.org", "eve@notx.org"]
    outcome = refused["bob@z.org"]
    assert outcome.reason is FailureReason.SUPPRESSED
    assert "MILENA_ALLOWED_RECIPIENT_DOMAINS" in outcome.diagnostic


def test_redirected_mail_refuses_nobody() -> None:
    both = Safety("test@x.org", frozenset({"x.org"}))
    assert both.refuse(["bob@z.org"]) == {}
    assert list(both.list_notes()) == ["MILENA_REDIRECT_ALL_TO"]


def test_a_domain_is_itself_and_a_star_all_below_it() -> None:
    assert allows({"x.org"}, "a@x.org")
    assert not allows({"x.org"}, "a@b.x.org")
    assert allows({"*.x.org"}, "a@c.b.x.org")
    assert not allows({"*.x.org"}, "a@x.org")


def test_the_settings_are_read_and_checked() -> None:
    read = WorkerSettings.model_validate({"allowed_recipient_domains": " X.org , *.bücher.example,"})
    assert read.safety.allowed_domains == {"x.org", "*.xn--bcher-kva.example"}
    assert WorkerSettings.model_validate({"redirect_all_to": "t@x.org"}).safety == Safety("t@x.org")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"redirect_all_to": "nobody"}, "not an email address"),
        ({"allowed_recipient_domains": "x.org, not a domain"}, "separated by commas"),
        ({"redirect_all_to": "t@y.org", "allowed_recipient_domains": "x.org"}, "must lie at one of"),
        ({"redirect_all_to": "t@y.org", "suppress_after_hard_bounce": True}, "MILENA_SUPPRESS_AFTER_HARD_BOUNCE"),
    ]
    for values, words in wrong:
        with pytest.raises(ValidationError, match=words):
            WorkerSettings.model_validate(values)


def test_built_messages_are_marked_only_where_redirected() -> None:
    message = BuiltMessage(b"Subject: s\r\n\r\nx\r\n", False)
    assert OFF.mark(message, ["a@x.org"]) is message
    assert REDIRECT.mark(message, ["a@x.org"]).content.startswith(b"X-Milena-Original-Recipients: a@x.org\r\nSubject")


def test_a_provider_that_goes_by_to_gets_only_the_one_address() -> None:
    _, plain = begin(["ann@x.org", "bob@y.org"], OFF)
    _, parcel = begin(["ann@x.org", "bob@y.org"], REDIRECT)
    assert orjson.loads(write_request(plain))["to"] == ["ann@x.org", "bob@y.org"]
    body = orjson.loads(write_request(parcel))
    assert (body["to"], body["cc"], body["envelope"]["to"]) == (["test@staging.org"], [], ["test@staging.org"])


# --- retries ---

MINUTE = timedelta(minutes=1)


def test_the_last_delay_repeats() -> None:
    policy = RetryPolicy((MINUTE, 5 * MINUTE))
    assert [policy.delay_after(n) for n in (1, 2, 3, 50)] == [MINUTE, 5 * MINUTE, 5 * MINUTE, 5 * MINUTE]


def test_a_delay_grows_by_up_to_its_jitter_and_never_shrinks() -> None:
    draws = iter([0.0, 0.5, 1.0])
    policy = RetryPolicy((10 * MINUTE,), jitter=0.2, draw=lambda: next(draws))
    assert [policy.delay_after(1) for _ in range(3)] == [10 * MINUTE, 11 * MINUTE, 12 * MINUTE]


def test_mails_put_off_together_do_not_come_back_together() -> None:
    policy = RetryPolicy((60 * MINUTE,), jitter=0.2)
    delays = sorted(policy.delay_after(1) for _ in range(1000))
    assert 60 * MINUTE <= delays[0] < 61 * MINUTE
    assert 71 * MINUTE < delays[-1] <= 72 * MINUTE
    assert max(late - early for early, late in pairwise(delays)) < MINUTE
