"""What a reconcile or a rebuild found, for people and for programs. Pure."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from services.gateway.rebuilding import Summary
from services.gateway.reconciling import MISSING, Report
from shared.events import format_time
from shared.states import MailStatus

_SHOWN = 20


def describe_report(report: Report) -> Iterator[str]:
    """A short table, and the faults by name."""
    yield f"{report.records} records read"
    yield ""
    yield f"{'state':<16}{'by the records':>16}{'read model':>14}"
    for name in [*(each.value for each in MailStatus), MISSING]:
        if report.states[name] or report.stored[name]:
            yield f"{name:<16}{report.states[name]:>16}{report.stored[name]:>14}"
    yield f"{'accepted':<16}{report.accepted:>16}{report.stored.total() - report.stored[MISSING]:>14}"
    yield ""
    for count, meaning in (
        (report.refused, "requests nobody can read, each answered by email.failed"),
        (report.unanswered, "requests nobody can read, not answered yet"),
        (report.skipped, "waiting mails whose request was refused though it can be read (skipped by an operator)"),
        (report.earlier, "mails whose request lies before what was read: compared, not counted"),
    ):
        if count:
            yield f"{count} {meaning}"
    for fault in report.named[:_SHOWN]:
        yield f"FAULT {fault.name}: {fault.reason}"
    if report.faults > _SHOWN:
        yield f"… and {report.faults - _SHOWN} more"
    yield f"{report.faults} faults" if report.faults else "everything adds up"


def report_to_json(report: Report, started_at: datetime, since: datetime | None) -> dict[str, Any]:
    """The same for programs; at most 100 faults are named."""
    return {
        "started_at": format_time(started_at),
        "since": format_time(since) if since else None,
        "records": report.records,
        "accepted": report.accepted,
        "states": dict(report.states),
        "read_model": dict(report.stored),
        "refused": report.refused,
        "unanswered": report.unanswered,
        "skipped": report.skipped,
        "earlier": report.earlier,
        "faults": report.faults,
        "named": [{"name": fault.name, "reason": fault.reason} for fault in report.named],
    }


def describe_summary(summary: Summary) -> str:
    """One line."""
    changes = summary.changes
    return (
        f"rebuilt from {summary.records} records in {summary.took_s:.1f} s (workers held for {summary.swap_s:.1f} s): "
        f"{summary.mails} mails, {changes.replaced} mended, {changes.added} added, {changes.removed} removed, "
        f"{summary.merged} merged with what is older; timeline lines {changes.lines_replaced} mended, "
        f"{changes.lines_added} added, {changes.lines_removed} removed"
    )
