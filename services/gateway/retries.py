"""Which recipients of a mail may be tried again, and the mail that tries them. Pure.

A mail, its retries, and theirs are one family: what any of them brought counts for all. So nobody gets a mail twice
that a retry has brought him, and nothing is tried while another one of the family is on its way.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.gateway.rereading import Spot
from shared.batching import Record
from shared.composing.composer import EXPIRY_LIMIT
from shared.events import EmailRequested, EventType, UnreadableEvent, open_record, read_bulk, read_email
from shared.states import FINAL_STATES, FailureReason, RecipientState

Row = dict[str, Any]

_SEEN_WITHIN = timedelta(minutes=10)  # what the read model has not shown by then was never published
_REQUESTS = (EventType.REQUESTED, EventType.BULK_REQUESTED)


@dataclass(frozen=True, slots=True)
class Relative:
    """A retry in a mail's family, as it was noted when it was asked for; `row` is the read model's, if it has one."""

    id: UUID
    number: int
    age: timedelta
    row: Row | None


class RetryRefused(Exception):
    """This mail is not tried again; `slug` and `detail` say why, `retry_id` is the retry that has to do with it."""

    def __init__(self, slug: str, detail: str, retry_id: UUID | None = None) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail
        self.retry_id = retry_id


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mail that may be tried again: for whom, and where its record may lie (the likelier place first)."""

    row: Row
    recipients: frozenset[str]
    spots: tuple[Spot, ...]
    number: int  # of this retry in its family


def choose(
    row: Row, lines: Sequence[Row], relatives: Sequence[Relative], others: Sequence[Row], *, include_unknown: bool
) -> Candidate:
    """Decide on one mail. Raises RetryRefused.

    `lines`: the timelines of the whole family. `relatives`: the retries in it. `others`: the read model's rows of
    the family, retries or not, without the mail itself.
    """
    if row["digest"] is None:
        raise RetryRefused("unreadable", "Its request could not be read; send the mail anew.")
    if not is_at_rest(row):
        raise RetryRefused("not-final", "This mail is still on its way; it is tried again without your doing.")
    _refuse_while_at_work([each for each in relatives if each.id != row["id"]])
    family = [row, *others]
    sent = {each["address"] for mail in family for each in mail["recipients"] if each["state"] == RecipientState.SENT}
    wanted = {each["address"] for each in row["recipients"]} - sent
    if not wanted:
        latest = max(relatives, key=lambda each: each.number).id if relatives else None
        raise RetryRefused("nothing-to-retry", "The relay has taken this mail for every recipient.", latest)
    if not include_unknown:
        wanted -= _find_doubtful(family, lines)
        if not wanted:
            detail = (
                "Nobody can know whether the relay has this mail already. To send it all the same, perhaps a second "
                'time, say {"include_unknown": true}.'
            )
            raise RetryRefused("outcome-unknown", detail)
    number = max((each.number for each in relatives), default=0) + 1
    return Candidate(row, frozenset(wanted), _list_spots(row, lines), number)


def is_at_rest(row: Row) -> bool:
    """Whether nothing happens to the mail by itself: all is final, or waits for an operator."""
    resting = FINAL_STATES | {RecipientState.UNKNOWN}
    return bool(row["complete"]) or all(each["state"] in resting for each in row["recipients"])


def _refuse_while_at_work(relatives: Iterable[Relative]) -> None:
    for each in relatives:
        busy = not is_at_rest(each.row) if each.row else each.age < _SEEN_WITHIN
        if busy:
            detail = "A retry of this mail is on its way; `retry_id` is its id."
            raise RetryRefused("retry-in-progress", detail, each.id)


def _find_doubtful(family: Iterable[Row], lines: Iterable[Row]) -> set[str]:
    """Recipients the relay may have the mail for, by any of its attempts: also where a later one had an answer."""
    states = {
        each["address"]
        for mail in family
        for each in mail["recipients"]
        if each["state"] == RecipientState.UNKNOWN or each.get("reason") == FailureReason.UNKNOWN
    }
    told = {
        each["address"]
        for line in lines
        if line["data"].get("reason") == FailureReason.UNKNOWN
        for each in line["data"].get("recipients") or ()
    }
    return states | told


def _list_spots(row: Row, lines: Iterable[Row]) -> tuple[Spot, ...]:
    """The request that counts, and the same one published later: a scheduled mail has been published twice."""
    later = sorted(
        (line for line in lines if line["email_id"] == row["id"] and line["type"] in _REQUESTS),
        key=lambda line: line["at"],
        reverse=True,
    )
    same = [line for line in later if line["data"].get("digest") == row["digest"] and line["topic"] == row["topic"]]
    spots = [(row["partition"], row["offset"]), *((line["partition"], line["offset"]) for line in same[:1])]
    return tuple(dict.fromkeys(spots))


def read_again(
    candidate: Candidate, records: Mapping[Spot, Record], cluster_id: str, event_limit: int
) -> tuple[EmailRequested, Record]:
    """The mail as it was asked for, and the record that says so. Raises RetryRefused once no record does."""
    for spot in candidate.spots:
        record = records.get(spot)
        mail = _read(record, candidate.row, cluster_id, event_limit) if record else None
        if record and mail:
            return mail, record
    raise RetryRefused("aged-out", "Kafka no longer holds this mail's content; send it anew.")


def _read(record: Record, row: Row, cluster_id: str, event_limit: int) -> EmailRequested | None:
    """The mail in the record, None where it holds another one: the topic may have been made anew."""
    try:
        opened = open_record(record.value, record.header("ce_type"), event_limit)
        if opened.type is EventType.BULK_REQUESTED:
            mails = read_bulk(opened, cluster_id, record.coordinates).list_mails()
        elif opened.type is EventType.REQUESTED:
            mails = [read_email(opened, cluster_id, record.coordinates)]
        else:
            return None
    except UnreadableEvent:
        return None
    found = next((mail for mail in mails if mail.id == row["id"]), None)
    return found if found and found.compute_digest() == row["digest"] else None


def renew(
    mail: EmailRequested, candidate: Candidate, record: Record, *, new_id: UUID, api_key_id: str, now: datetime
) -> EmailRequested:
    """The retry: the same mail for the recipients that are left, sent at once.

    `send_at` is over and left out. A mail that was given a time to live gets as much again, counted from now.
    """
    left = candidate.recipients
    kept = {name: [box for box in getattr(mail, name) if box.address in left] for name in ("to", "cc", "bcc")}
    own = {
        "id": new_id,
        "retry_of": candidate.row["id"],
        "api_key_id": api_key_id,
        "requested_at": now,
        "send_at": None,
        "paced": False,
        "expires_at": _renew_expiry(mail, candidate.row, record.coordinates.time, now),
    }
    return mail.model_copy(update=kept | own)


def _renew_expiry(mail: EmailRequested, row: Row, recorded_at: datetime, now: datetime) -> datetime | None:
    if mail.expires_at is None:
        return None
    times = [each for each in (recorded_at, mail.send_at, row["send_at"]) if each and each < mail.expires_at]
    lifetime = mail.expires_at - max(times) if times else timedelta(0)
    return now + min(max(lifetime, timedelta(minutes=1)), EXPIRY_LIMIT)
