"""From records to what the read model knows of a mail. Pure.

Records come twice, in any order across topics, and to several workers. So what is known of a mail is a value that
observations are merged into, and merging gives the same whatever their order: every rule below is a minimum, a
maximum, a union, or the precedence of shared/states.py.

Some of each are made for every record, so they are named tuples: making one takes a quarter of a frozen dataclass.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

from shared.states import (
    FINAL_STATES,
    FailureReason,
    MailStatus,
    RecipientState,
    derive_status,
    takes_precedence,
)

Known = TypeVar("Known", str, datetime)


def _least(one: Known | None, other: Known | None) -> Known | None:
    """The smaller of what is known; "the first that came" would depend on who reads."""
    return other if one is None else one if other is None else min(one, other)


class RequestSeen(NamedTuple):
    """A mail's request, without its bodies. `digest` is that of its content (R5)."""

    digest: str
    account: str
    sender: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    bcc: tuple[str, ...]
    addresses: tuple[str, ...]
    subject: str
    recorded_at: datetime
    topic: str
    partition: int
    offset: int
    metadata: dict[str, object]
    api_key_id: str | None = None
    tags: tuple[str, ...] = ()
    mailing_id: str | None = None
    batch_id: str | None = None
    retry_of: str | None = None
    send_at: datetime | None = None
    expires_at: datetime | None = None
    test: bool = False
    requested_at: datetime | None = None

    @property
    def position(self) -> tuple[datetime, str, int, int]:
        """Orders requests of one mail, the same for everybody who sees them."""
        return (self.recorded_at, self.topic, self.partition, self.offset)

    def merge(self, other: "RequestSeen") -> "RequestSeen":
        """The same content seen again: the first record counts, the other may know the times (the earliest, then)."""
        first = min(self, other, key=lambda seen: seen.position)
        return first._replace(
            send_at=_least(self.send_at, other.send_at),
            expires_at=_least(self.expires_at, other.expires_at),
            requested_at=_least(self.requested_at, other.requested_at),
            api_key_id=_least(self.api_key_id, other.api_key_id),
        )


class Outcome(NamedTuple):
    """What one event said of one recipient."""

    address: str
    state: RecipientState
    attempt: int
    at: datetime
    smtp_code: int | None = None
    enhanced_code: str | None = None
    response: str | None = None
    reason: str | None = None
    relay: str | None = None

    def merge(self, other: "Outcome") -> "Outcome":
        """The one that counts of two. Of two equal ones the one that says more, then the earlier."""
        if takes_precedence(other.state, other.attempt, self.state, self.attempt):
            return other
        if takes_precedence(self.state, self.attempt, other.state, other.attempt):
            return self
        return min(self, other, key=Outcome._tell_apart)

    def _tell_apart(self) -> tuple[object, ...]:
        """Orders outcomes that count the same; whatever they differ in decides, never which came first."""
        said = (self.reason or "", self.response or "", self.smtp_code or 0, self.enhanced_code or "", self.relay or "")
        return (not self.response, self.reason is None, self.at, *said)


class Standing(NamedTuple):
    """Where a mail stands, as it follows from everything known of it. `complete`: nothing more will happen to it."""

    recipients: list[Outcome]
    complete: bool
    status: MailStatus


class Mail(NamedTuple):
    """Everything known of one mail. Merging two of them is how observations add up."""

    id: UUID
    account: str
    created_at: datetime
    updated_at: datetime
    requests: tuple[RequestSeen, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    ledger_digest: str | None = None
    message_id: str | None = None
    attempts: int = 0
    held: bool = False
    released: bool = False
    refused: bool = False
    completed: bool = False

    def merge(self, other: "Mail") -> "Mail":
        """What both know together."""
        return Mail(
            id=self.id,
            account=min((self, other), key=lambda mail: (mail.created_at, mail.account)).account,
            created_at=min(self.created_at, other.created_at),
            updated_at=max(self.updated_at, other.updated_at),
            requests=_merge_requests(self.requests, other.requests),
            outcomes=_merge_outcomes(self.outcomes, other.outcomes),
            ledger_digest=_least(self.ledger_digest, other.ledger_digest),
            message_id=_least(self.message_id, other.message_id),
            attempts=max(self.attempts, other.attempts),
            held=self.held or other.held,
            released=self.released or other.released,
            refused=self.refused or other.refused,
            completed=self.completed or other.completed,
        )

    @property
    def tells_the_end(self) -> bool:
        """A result of a mail to one recipient that nothing more will happen to: most results are such."""
        known = self.completed and self.ledger_digest is not None and len(self.outcomes) == 1
        return known and not self.requests and not self.refused

    @property
    def request(self) -> RequestSeen | None:
        """The request that counts: the one the ledger took, or else the first (R5)."""
        for seen in self.requests:
            if seen.digest == self.ledger_digest:
                return seen
        return self.requests[0] if self.requests else None

    @property
    def owner(self) -> str:
        """The account the mail belongs to."""
        return self.request.account if self.request else self.account

    @property
    def recipients(self) -> list[Outcome]:
        """All recipients, those nothing was heard of as pending, in the order of the request."""
        known = {outcome.address: outcome for outcome in self.outcomes}
        request = self.request
        if request is None:
            return list(self.outcomes)
        waiting = [
            known.get(address) or Outcome(address, RecipientState.PENDING, 0, request.recorded_at)
            for address in request.addresses
        ]
        return waiting + [outcome for outcome in self.outcomes if outcome.address not in request.addresses]

    @property
    def complete(self) -> bool:
        """Nothing more will happen to it."""
        return self.derive_standing().complete

    @property
    def status(self) -> MailStatus:
        """The mail's status, derived."""
        return self.derive_standing().status

    def derive_standing(self) -> Standing:
        """Recipients, completeness and status in one go."""
        if len(self.outcomes) == 1 and self.completed and len(self.requests) < 2:
            outcome = self.outcomes[0]
            is_all = not self.requests or self.requests[0].addresses == (outcome.address,)
            if is_all and outcome.state is RecipientState.SENT:  # how nearly every mail ends
                return Standing([outcome], True, MailStatus.SENT)
        recipients = self.recipients
        if self._is_refused:
            return Standing(recipients, True, MailStatus.FAILED)
        states = {outcome.state for outcome in recipients}
        all_final = bool(recipients) and states <= FINAL_STATES
        complete = self.completed or (bool(self.requests) and all_final)
        return Standing(recipients, complete, self._derive_status(recipients, states))

    def _derive_status(self, recipients: list[Outcome], states: set[RecipientState]) -> MailStatus:
        if not self.requests and not self.completed:
            states = states | {RecipientState.PENDING}  # there may be recipients nobody has told us of yet
        reasons = [
            FailureReason(outcome.reason)
            for outcome in recipients
            if outcome.state is RecipientState.FAILED and outcome.reason
        ]
        return derive_status(states, reasons=reasons, scheduled=self.held and not self.released)

    @property
    def _is_refused(self) -> bool:
        # Only a request nobody can read is refused as a whole; of one that was read, recipients have outcomes (R4).
        return self.refused and not self.requests and not self.outcomes


def _merge_requests(one: tuple[RequestSeen, ...], other: tuple[RequestSeen, ...]) -> tuple[RequestSeen, ...]:
    if not one or not other:
        return one or other
    requests = {seen.digest: seen for seen in one}
    for seen in other:
        requests[seen.digest] = requests[seen.digest].merge(seen) if seen.digest in requests else seen
    return tuple(sorted(requests.values(), key=lambda seen: seen.position))


def _merge_outcomes(one: tuple[Outcome, ...], other: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    if not one or not other:
        return one or other
    outcomes = {outcome.address: outcome for outcome in one}
    for outcome in other:
        known = outcomes.get(outcome.address)
        outcomes[outcome.address] = known.merge(outcome) if known else outcome
    return tuple(sorted(outcomes.values(), key=lambda outcome: outcome.address))


def merge_all(mails: Iterable[Mail]) -> dict[UUID, Mail]:
    """One value per mail."""
    merged: dict[int, Mail] = {}  # by the id's number: a UUID's own hash and comparison are Python
    for mail in mails:
        number = mail.id.int
        known = merged.get(number)
        merged[number] = known.merge(mail) if known else mail
    return {mail.id: mail for mail in merged.values()}
