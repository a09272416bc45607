"""What would become of a mailing if it were started now. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.scheduler.mailings.content import Errors, find_needs, render
from services.scheduler.mailings.defining import check_times, find_refused_sender
from services.scheduler.mailings.hours import Hours
from services.scheduler.mailings.mailing import MailingDefinition
from services.scheduler.mailings.variables import LINK
from shared.access import ApiKey

_DAY_S = 24 * 60 * 60
_MOST_FAULTS = 20
EMPTY = {"detail": "nobody is in it", "pointer": "/audience"}
UNREACHABLE = {
    "detail": "needs MILENA_PUBLIC_URL, which says where recipients reach /unsubscribe: have it set, or set this false",
    "pointer": "/unsubscribe",
}


@dataclass(slots=True)
class Fault:
    """A way in which rendering failed: how often, and for whom first."""

    recipients: int
    example: str


@dataclass(slots=True)
class Trial:
    """Renders for one recipient after the other, and remembers what failed."""

    content: Mapping[str, Any]
    tried: int = 0
    failed: int = 0
    faults: dict[tuple[str, str], Fault] = field(default_factory=dict)

    def take(self, variables: Mapping[str, Any]) -> None:
        """One recipient."""
        self.tried += 1
        errors = render(self.content, variables).errors
        self.failed += bool(errors)
        for error in errors:
            found = self.faults.get((error.field, error.detail))
            if found:
                found.recipients += 1
            elif len(self.faults) < _MOST_FAULTS:
                self.faults[error.field, error.detail] = Fault(1, variables["address"])


def estimate_duration(mails: int, rate: int | None, hours: Hours | None) -> timedelta | None:
    """How long it takes at its rate, where all recipients have one clock and it begins with the window."""
    if not rate:
        return None
    needed_s = mails / rate
    if hours is None:
        return timedelta(seconds=needed_s)
    open_s = (_count_minutes(hours.end) - _count_minutes(hours.start)) * 60 % _DAY_S
    days, rest_s = divmod(needed_s, open_s)
    return timedelta(days=days, seconds=rest_s)


def count_shut_out(definition: MailingDefinition, now: datetime, zones: Mapping[str | None, int]) -> int:
    """How many recipients have no hours between its start and its end, of so many in each time zone."""
    hours, end = definition.hours, definition.finish_at
    if hours is None or end is None:
        return 0
    begin = max(now, definition.start_at or now)
    windows = ((hours.next_window(begin, zone), count) for zone, count in zones.items())
    return sum(count for window, count in windows if window is None or window.start >= end)


def _count_minutes(clock: Any) -> int:
    return int(clock.hour * 60 + clock.minute)


def list_problems(
    definition: MailingDefinition, key: ApiKey, now: datetime, *, is_empty: bool, is_reachable: bool
) -> Errors:
    """Why it cannot be started, with pointers into the mailing. `is_reachable`: links to unsubscribe lead somewhere."""
    problems = check_times(definition, now)
    if sender := find_refused_sender(definition, key):
        detail = "is not among the senders of this API key"
        problems.append({"detail": detail, "pointer": f"/content/{sender}"})
    if definition.unsubscribe and not is_reachable:
        problems.append(UNREACHABLE)
    return [*problems, EMPTY] if is_empty else problems


def list_warnings(
    definition: MailingDefinition,
    now: datetime,
    duration: timedelta | None,
    trial: Trial,
    *,
    lacking: int = 0,
    shut_out: int = 0,
) -> list[tuple[str, str]]:
    """What need not be wrong: code and sentence. `lacking` variables, and recipients who are `shut_out`."""
    found: list[tuple[str, str]] = []
    if not definition.unsubscribe:
        detail = "The mail has no List-Unsubscribe (`unsubscribe: true`): large mailbox providers refuse mass mail so."
        found.append(("no-unsubscribe", detail))
    elif LINK not in find_needs(definition.content).names:
        detail = "The text says nowhere how to unsubscribe: put {{ unsubscribe_url }} there, for people to see."
        found.append(("no-link-in-text", detail))
    if definition.audience.is_everyone:
        found.append(("everyone", "The audience has no condition: it goes to every contact of the account."))
    if lacking:
        found.append(("missing-variables", "Some recipients lack a variable that the templates need; see `missing`."))
    if trial.tried and trial.failed == trial.tried:
        found.append(("all-fail", "The mail could be rendered for none of the recipients it was tried for."))
    begin = max(now, definition.start_at or now)
    if duration and definition.finish_at and begin + duration > definition.finish_at:
        detail = "At its rate it is not through by finish_at: the rest would not be sent."
        found.append(("finishes-too-early", detail))
    if shut_out:
        detail = f"{shut_out} of the recipients would get nothing: no `hours` of theirs open before finish_at."
        found.append(("hours-never-open", detail))
    return found
