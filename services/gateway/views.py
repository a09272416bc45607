"""From rows to what a caller sees. Pure."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from services.gateway.answers import Email, EmailItem, EmailLinks, Recipient, Timeline, TimelineEvent
from shared.events import EventType

Row = dict[str, Any]

_RANK = {
    EventType.REQUESTED: 0,
    EventType.CANCELLATION_REQUESTED: 1,
    EventType.RESCHEDULED: 1,
    EventType.SENT: 2,
    EventType.FAILED: 3,
}
_SHOWN = ("attempt", "reason", "final", "retry_at", "relay", "response", "message_id", "send_at", "errors")


def show_email(row: Row) -> Email:
    """A mail as `GET /v1/emails/{id}` answers."""
    addressees = row["addressees"] or {}
    return Email(
        id=row["id"],
        status=row["status"],
        complete=row["complete"],
        from_=row["sender"],
        to=addressees.get("to"),
        cc=addressees.get("cc") or None,
        bcc=addressees.get("bcc") or None,
        subject=row["subject"],
        recipients=[_show_recipient(each) for each in row["recipients"]],
        attempts=row["attempts"],
        message_id=row["message_id"],
        tags=row["tags"] or [],
        metadata=row["metadata"] or {},
        mailing_id=row["mailing_id"],
        batch_id=row["batch_id"],
        retry_of=row["retry_of"],
        send_at=row.get("moved_to") or row["send_at"],
        expires_at=row["expires_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        links=_link(row["id"]),
    )


def show_item(row: Row) -> EmailItem:
    """A mail as `GET /v1/emails` lists it."""
    return EmailItem(
        id=row["id"],
        status=row["status"],
        from_=row["sender"],
        to=row["to"],
        recipient_count=row["recipient_count"],
        subject=row["subject"],
        tags=row["tags"] or [],
        mailing_id=row["mailing_id"],
        batch_id=row["batch_id"],
        send_at=row["send_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        links=_link(row["id"]),
    )


def show_timeline(row: Row, lines: Iterable[Row]) -> Timeline:
    """A mail's timeline, in order. What other accounts said under the same id is not shown."""
    mine = [line for line in lines if line["account"] == row["account"]]
    mine.sort(key=_order)
    was_held = any(line["data"].get("held") for line in mine)
    return Timeline(
        id=row["id"], status=row["status"], events=[_show_line(line, row["digest"], was_held) for line in mine]
    )


def _show_recipient(outcome: Row) -> Recipient:
    is_pending = outcome["state"] == "pending"
    return Recipient(
        address=outcome["address"],
        state=outcome["state"],
        attempt=None if is_pending else outcome["attempt"],
        smtp_code=outcome.get("smtp_code"),
        response=outcome.get("response"),
        reason=outcome.get("reason"),
        at=None if is_pending else outcome["at"],
    )


def _show_line(line: Row, digest: str | None, was_held: bool) -> TimelineEvent:
    data = line["data"]
    return TimelineEvent(
        id=data.get("ce_id") or line["event_id"],
        type=line["type"],
        time=line["at"],
        recipients=data.get("recipients") or None,
        complete=data.get("complete") or None,
        detail=_explain(line, digest, was_held),
        **{name: data.get(name) for name in _SHOWN},
    )


def _explain(line: Row, digest: str | None, was_held: bool) -> str | None:
    data = line["data"]
    if line["type"] != EventType.REQUESTED:
        return None
    if digest and data["digest"] != digest:
        return "conflict: the same id with another content; only the first one counts"
    if data["held"]:
        return "waits for its time" if data.get("send_at") else "waits for its turn"
    return "released" if was_held else None


def _order(line: Row) -> tuple[Any, ...]:
    """By the broker's time; within a millisecond as things follow from one another."""
    data = line["data"]
    rank = _RANK.get(line["type"], 9)
    return (line["at"], min(rank, 2), data.get("attempt") or 0, rank, data.get("final") is True, line["offset"])


def _link(email_id: UUID) -> EmailLinks:
    return EmailLinks(
        self=f"/v1/emails/{email_id}",
        events=f"/v1/emails/{email_id}/events",
        deliveries=f"/v1/webhooks/deliveries?email_id={email_id}",
    )
