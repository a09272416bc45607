"""The table of relays' answers: every rule is reached, none hides another, none contradicts SMTP by accident."""

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.answers import RULES, Kind, Rule, find_rule, search
from services.sender.classify import (
    Deferred,
    Failed,
    Reply,
    asks_to_slow_down,
    classify,
    is_for_operators,
    kind_of,
    lacks_room,
    tells_of_dead_address,
)
from shared.states import FailureReason

REGISTERED = {1: 10, 2: 4, 3: 6, 4: 7, 5: 6, 6: 10, 7: 30}  # the registry of RFC 5248: subject, its highest detail


def read(answer: str) -> Reply:
    return Reply(int(answer[:3]), answer[4:])


# --- the checker ---


def find_faults(rules: Sequence[Rule]) -> list[str]:
    """What is wrong with a table; empty where it is sound."""
    faults = []
    for rule in rules:
        reply = read(rule.example)
        taker = search(rules, reply.code, reply.enhanced, reply.text)
        if taker is not rule:
            faults.append(f"{rule.example!r} is taken by {taker.example if taker else None!r}")
        faults += [f"{rule.example!r}: {why}" for why in find_faults_of(rule)]
    for code in range(400, 600):
        taker = search(rules, code, None, "")
        if taker is None or (taker.kind is Kind.PERMANENT) != (code >= 500 and not taker.against_class):
            faults.append(f"{code} alone is not what its class says")
    return faults


def find_faults_of(rule: Rule) -> list[str]:
    faults = []
    reply = read(rule.example)
    for each in rule.codes.split():
        if not re.fullmatch(r"[45]xx|4[0-5]\d|5[0-5]\d", each):
            faults.append(f"{each} is no code of a refusal")
    for each in rule.status.split():
        subject, _, detail = each.partition(".")
        if int(subject) not in REGISTERED or not (detail == "*" or 0 <= int(detail) <= REGISTERED[int(subject)]):
            faults.append(f"{each} is not registered")
    if reply.enhanced and reply.enhanced[0] != str(reply.code)[0]:
        faults.append("its example's two codes differ in class")
    can_be_final = not rule.codes or any(each.startswith("5") for each in rule.codes.split())
    can_be_transient = not rule.codes or any(each.startswith("4") for each in rule.codes.split())
    if rule.kind is Kind.PERMANENT and can_be_transient:
        faults.append("a 4yz may never be final")
    if (rule.kind is not Kind.PERMANENT and can_be_final) != bool(rule.against_class):
        faults.append("the class is overruled without a reason, or a reason is given and it is not")
    if rule.kind is Kind.UNKNOWN or (rule.kind is Kind.RATE_LIMITED and not rule.slower):
        faults.append("kind and pace do not go together")
    if rule.operators and rule.kind is not Kind.RELAYS_TROUBLE:
        faults.append("what an operator mends is no fault of the mail")
    if rule.too_many and rule.kind is not Kind.TRANSIENT:
        faults.append("who is welcome at once is refused for no other reason")
    if rule.dead and rule.kind is not Kind.PERMANENT:
        faults.append("an address is not dead for now")
    if rule.words:
        re.compile(rule.words)
    return faults


def test_the_table_is_sound() -> None:
    assert find_faults(RULES) == []


def test_every_kind_but_the_unknown_one_has_rules() -> None:
    assert {rule.kind for rule in RULES} == set(Kind) - {Kind.UNKNOWN}


GENERAL = [n for n, each in enumerate(RULES) if each.codes in ("4xx", "5xx") and not each.status and not each.words]


@pytest.mark.parametrize("position", [n for n in range(len(RULES)) if n not in GENERAL])
def test_a_rule_moved_behind_the_general_ones_is_found_out(position: int) -> None:
    assert find_faults([*RULES[:position], *RULES[position + 1 :], RULES[position]])


BROKEN = [
    ("is taken by", replace(RULES[0], example="550 5.1.1 No")),
    ("no code", replace(RULES[0], codes="4xx 699")),
    ("not registered", replace(RULES[0], status="2.2 9.1")),
    ("not registered", replace(RULES[0], status="2.2 7.99")),
    ("never be final", replace(RULES[0], kind=Kind.PERMANENT)),
    ("overruled", replace(RULES[1], kind=Kind.TRANSIENT)),
    ("overruled", replace(RULES[0], against_class="no reason")),
    ("kind and pace", replace(RULES[0], kind=Kind.RATE_LIMITED)),
    ("not dead", replace(RULES[0], dead=True)),
    ("welcome at once", replace(RULES[1], too_many=True)),
    ("operator mends", replace(RULES[0], operators=True)),
    ("differ in class", replace(RULES[0], example="452 5.2.2 Mailbox full")),
]


@pytest.mark.parametrize(("fault", "rule"), BROKEN, ids=range(len(BROKEN)))
def test_the_checker_finds_each_kind_of_fault(fault: str, rule: Rule) -> None:
    position = 1 if rule.codes == "5xx" else 0
    table = [rule if n == position else each for n, each in enumerate(RULES)]
    assert any(fault in each for each in find_faults(table))


def test_a_table_without_its_last_rules_is_not_complete() -> None:
    assert any("alone" in each for each in find_faults(RULES[:-1]))


# --- what it says ---

HAPPENS = [
    # what providers write, the kind, whether it asks for fewer
    ("421 4.7.28 [192.0.2.1] Our system has detected an unusual rate of unsolicited mail", Kind.RATE_LIMITED, True),
    ("421 4.7.0 Try again later, closing connection. gsmtp", Kind.RATE_LIMITED, True),
    ("450 4.2.1 Peak SMTP relay limit exceeded for customer.", Kind.RATE_LIMITED, True),
    ("454 Throttling failure: Daily message quota exceeded.", Kind.RATE_LIMITED, True),
    ("550 5.4.5 Daily user sending limit exceeded.", Kind.RATE_LIMITED, True),
    ("421 4.7.0 mx.example.org Error: too many connections from 192.0.2.1", Kind.RATE_LIMITED, True),
    ("452 4.7.1 you are sending too fast", Kind.RATE_LIMITED, True),
    ("550 5.7.1 rate limited", Kind.RATE_LIMITED, True),
    ("450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents", Kind.TRANSIENT, False),
    ("450 4.2.0 <a@x.org>: Recipient address rejected: Greylisted, see https://x.org", Kind.TRANSIENT, False),
    ("451 4.7.1 Graylisting in action, please come back later", Kind.TRANSIENT, False),
    ("452 4.2.2 The email account that you tried to reach is over quota", Kind.TRANSIENT, False),
    ("452 4.2.2 mailbox has too many messages", Kind.TRANSIENT, False),
    ("452 4.5.3 Your message has too many recipients", Kind.TRANSIENT, False),
    ("552 5.5.3 Too many recipients", Kind.TRANSIENT, False),
    ("451 4.4.1 no answer from destination", Kind.TRANSIENT, False),
    ("451 4.3.0 Temporary lookup failure", Kind.TRANSIENT, True),
    ("450 later", Kind.TRANSIENT, True),
    ("452 4.3.1 Insufficient system storage", Kind.RELAYS_TROUBLE, True),
    ("421 4.3.2 System not accepting network messages", Kind.RELAYS_TROUBLE, True),
    ("421 ", Kind.RELAYS_TROUBLE, True),
    ("451 4.3.5 Server configuration error", Kind.RELAYS_TROUBLE, True),
    ("530 5.7.0 Must issue a STARTTLS command first", Kind.RELAYS_TROUBLE, False),
    ("535 5.7.8 authentication failed", Kind.RELAYS_TROUBLE, False),
    ("554 5.7.1 <a@x.org>: Relay access denied", Kind.RELAYS_TROUBLE, False),
    ("550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", Kind.RELAYS_TROUBLE, False),
    ("550 5.7.1 Client was not authenticated", Kind.RELAYS_TROUBLE, False),
    ("554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied", Kind.RELAYS_TROUBLE, True),
    ("550 5.1.1 The email account that you tried to reach does not exist", Kind.PERMANENT, False),
    ("550 5.2.1 The email account that you tried to reach is disabled", Kind.PERMANENT, False),
    ("552 5.2.2 mailbox full", Kind.PERMANENT, False),
    ("554 5.2.2 mailbox full; 5.2.2 over daily limit of nothing", Kind.PERMANENT, False),
    ("552 5.3.4 Message size exceeds fixed limit", Kind.PERMANENT, False),
    ("552 5.3.4 message size limit exceeded", Kind.PERMANENT, False),
    ("553 5.6.7 non-ASCII addresses not permitted", Kind.PERMANENT, False),
    ("550 5.7.1 This message violates example.com email policy", Kind.PERMANENT, False),
    ("554 Message rejected: Email address is not verified.", Kind.PERMANENT, False),
    ("501 5.1.7 Bad sender address syntax", Kind.PERMANENT, False),
]


@pytest.mark.parametrize(("answer", "kind", "slower"), HAPPENS, ids=[each[0][:30] for each in HAPPENS])
def test_a_known_answer_is_understood(answer: str, kind: Kind, slower: bool) -> None:
    reply = read(answer)
    assert (kind_of(reply), asks_to_slow_down(reply)) == (kind, slower)
    for content_written in (False, True):
        outcome = classify(reply, content_written=content_written)
        if kind is Kind.PERMANENT:
            assert outcome == Failed(reply, str(reply))
        else:
            operators = kind is Kind.RELAYS_TROUBLE
            reason = FailureReason.RELAY_UNAVAILABLE if operators else FailureReason.DEFERRED
            assert outcome == Deferred(reply, str(reply), reason)


@pytest.mark.parametrize(
    ("answer", "dead"),
    [
        ("550 5.1.1 <a@x.org>: Recipient address rejected: User unknown", True),
        ("550 No such user here", True),
        ("550 5.1.10 recipient's domain has a null MX", True),
        ("556 domain does not accept mail", True),
        ("554 delivery error: This user doesn't have an account; mailbox unknown", True),
        ("550 5.1.8 <a@x.org>: Sender address rejected: Domain not found", False),
        ("550 Sender address rejected: user unknown", False),
        ("552 5.2.2 mailbox full", False),
        ("550 mailbox is full", False),
        ("550 5.7.1 policy", False),
        ("450 4.1.1 user unknown", False),
        ("250 no such user, but never mind", False),
    ],
)
def test_only_an_answer_about_the_address_calls_it_dead(answer: str, dead: bool) -> None:
    assert tells_of_dead_address(read(answer)) is dead


@pytest.mark.parametrize(
    ("answer", "operators"),
    [
        ("530 5.7.0 Must issue a STARTTLS command first", True),
        ("530 Authentication required", True),
        ("534 5.7.9 Authentication mechanism is too weak", True),
        ("535 5.7.8 authentication failed", True),
        ("538 5.7.11 Encryption required for requested authentication mechanism", True),
        ("525 5.7.13 User account disabled", True),
        ("432 4.7.12 A password transition is needed", True),
        ("550 5.7.8 Authentication credentials invalid", True),
        ("454 4.7.0 Temporary authentication failure", False),
        ("421 4.7.0 closing", False),
        ("554 5.7.1 <a@x.org>: Relay access denied", False),  # perhaps of this recipient's domain alone
        ("550 5.7.1 Client host blocked using bl.example.org", False),
        ("550 5.7.1 policy", False),
    ],
)
def test_only_credentials_and_tls_are_wholly_the_operators(answer: str, operators: bool) -> None:
    assert is_for_operators(read(answer)) is operators


@pytest.mark.parametrize(
    ("answer", "welcome"),
    [
        ("452 4.5.3 Error: too many recipients", True),
        ("452 too many recipients", True),
        ("552 5.5.3 Too many", True),
        ("552 Too many recipients", True),
        ("452 4.2.2 mailbox full", False),
        ("452 4.3.1 Insufficient system storage", False),
        ("450 4.7.1 too many recipients in the last hour", False),
        ("550 5.5.3 Too many recipients", False),
        ("250 too many recipients", False),
    ],
)
def test_only_one_too_many_of_a_transaction_is_welcome_in_the_next(answer: str, welcome: bool) -> None:
    assert lacks_room(read(answer)) is welcome


@pytest.mark.parametrize(("answer", "kind"), [("450 5.1.1 no", Kind.TRANSIENT), ("550 4.2.0 no", Kind.PERMANENT)])
def test_where_the_two_codes_differ_in_class_the_reply_code_counts(answer: str, kind: Kind) -> None:
    assert kind_of(read(answer)) is kind


@given(st.integers(0, 999), st.text(max_size=60), st.sampled_from(["", "4.2.2 ", "5.7.1 ", "5.1.1 ", "4.7.28 "]))
def test_every_refusal_has_a_rule_and_nothing_else_has(code: int, words: str, enhanced: str) -> None:
    reply = Reply(code, enhanced + words)
    assert (find_rule(code, reply.enhanced, reply.text) is not None) == (400 <= code < 600)
    if 400 <= code < 500:
        assert isinstance(classify(reply, content_written=True), Deferred)


def test_a_very_long_answer_is_searched_in_no_time() -> None:
    reply = Reply(550, "user " * 20_000 + "mailbox ip relay " * 5_000)
    assert kind_of(reply) is Kind.PERMANENT
