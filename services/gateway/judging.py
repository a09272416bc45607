"""Whether what the read model has of a mail follows from the records, and whether a mail waits for too long. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.gateway.dossiers import Dossier, strip
from services.gateway.projection import Mail
from services.gateway.replaying import Place
from services.gateway.rows import row_to_mail
from shared.states import MailStatus

Row = dict[str, Any]
WAITING = (MailStatus.QUEUED, MailStatus.SCHEDULED, MailStatus.DEFERRED)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the read model has of one id: its row, and where the record of each line of its timeline lies."""

    row: Row | None
    lines: Mapping[UUID, tuple[str, int, int]]

    @property
    def mail(self) -> Mail | None:
        """The row's knowledge without content; None where there is no row, or none that can be read."""
        try:
            return strip(row_to_mail(self.row)) if self.row else None
        except (KeyError, TypeError, ValueError, AttributeError):
            return None  # garbled by hand

    def is_covered(self, firsts: Mapping[Place, int]) -> bool:
        """Whether every record behind it lies in what was read, which begins at `firsts`."""
        places = list(self.lines.values())
        if self.row and self.row["topic"] is not None:
            places.append((self.row["topic"], self.row["partition"], self.row["offset"]))
        return all(
            (topic, partition) in firsts and offset >= firsts[topic, partition] for topic, partition, offset in places
        )


@dataclass(frozen=True, slots=True)
class Window:
    """What was read: per partition from `firsts` up to, not including, `ends`."""

    firsts: Mapping[Place, int]
    ends: Mapping[Place, int]


def find_differences(before: Dossier, stored: Stored, after: Dossier, window: Window) -> list[str]:
    """Why what is stored does not follow from the records; empty where it does.

    `before` is what the records said before `stored` was looked up, `after` what they say since: the row must know the
    one and may know the other. What lies before the window is believed.
    """
    found = []
    lacking = before.lines - stored.lines.keys()
    if lacking:
        found.append(f"its timeline lacks {len(lacking)} of {len(before.lines)} events ({min(lacking)})")
    surplus = [event_id for event_id in stored.lines.keys() - after.lines if _was_read(stored.lines[event_id], window)]
    if surplus:
        found.append(f"its timeline has {len(surplus)} events that no record tells ({min(surplus)})")
    if stored.row is None:
        return ["it has no row in the read model", *found] if before.mail else found
    known = stored.mail
    if known is None:
        return ["its row cannot be read", *found]
    if before.mail and _differs_in_content(before.mail, known):
        found.append("its sender, recipients, subject or tags differ from its record")
    if before.mail and (behind := _compare(_list_facts(known.merge(before.mail)), _read_facts(stored.row))):
        found.append(behind)
    elif after.mail and stored.is_covered(window.firsts):
        ahead = _compare(_list_facts(after.mail), _list_facts(known.merge(after.mail)))
        if ahead:
            found.append(ahead)
    return found


def _differs_in_content(told: Mail, known: Mail) -> bool:
    """Whether the very record the row was made from says something else than the row (both stripped)."""
    kept = known.request
    return kept is not None and any(
        (seen.digest, seen.position) == (kept.digest, kept.position) and seen.subject != kept.subject
        for seen in told.requests
    )


def find_state(dossier: Dossier, stored: Stored, window: Window) -> Mail | None:
    """The mail as all that is known has it: the records, and for what lies before them the read model."""
    known = None if stored.is_covered(window.firsts) else stored.mail
    return known.merge(dossier.mail) if known and dossier.mail else dossier.mail


def find_overdue(mail: Mail, dossier: Dossier, now: datetime, patience: timedelta) -> timedelta | None:
    """For how long the mail has been waiting for an outcome, where that is longer than `patience`.

    A mail scheduled for later (as it was last changed), or to be tried again later, waits from then on; an unknown one
    waits for an operator.
    """
    if mail.status not in WAITING:
        return None
    match mail.status:
        case MailStatus.SCHEDULED:
            asked = mail.request.send_at if mail.request else None
            times = (mail.created_at, dossier.moved[1] if dossier.moved else asked)
        case MailStatus.DEFERRED:
            times = (mail.updated_at, dossier.retry_at)
        case _:
            times = (dossier.asked_at or mail.created_at, None)
    age = now - max(filter(None, times))
    return age if age > patience else None


def _was_read(place: tuple[str, int, int], window: Window) -> bool:
    topic, partition, offset = place
    known = (topic, partition) in window.firsts
    return known and window.firsts[topic, partition] <= offset < window.ends[topic, partition]


_Facts = tuple[str, bool, int, Counter[tuple[str, str, int]], frozenset[str]]
_NAMES = ("status", "completeness", "attempts", "recipients", "contents")


def _list_facts(mail: Mail) -> _Facts:
    """What must be the same in records and read model, in the order of `_NAMES`."""
    recipients = Counter((each.address, each.state.value, each.attempt) for each in mail.recipients)
    digests = frozenset(seen.digest for seen in mail.requests)
    return (mail.status.value, mail.complete, mail.attempts, recipients, digests)


def _read_facts(row: Row) -> _Facts:
    recipients = Counter((each["address"], each["state"], each["attempt"]) for each in row["recipients"])
    digests = {each["digest"] for each in row["rivals"] or ()} | ({row["digest"]} if row["digest"] else set())
    return (row["status"], row["complete"], row["attempts"], recipients, frozenset(digests))


def _compare(expected: _Facts, found: _Facts) -> str | None:
    if expected[0] != found[0]:
        return f"by the records it is {expected[0]}, in the read model {found[0]}"
    differing = [name for name, one, other in zip(_NAMES, expected, found, strict=True) if one != other]
    return f"its {', '.join(differing)} differ from the records" if differing else None
