"""Between what is known of a mail and its row. Pure; `Mail` in, row out, and back."""

from datetime import date, datetime
from typing import Any

from services.gateway.lines import Line
from services.gateway.projection import Mail, Outcome, RequestSeen
from shared.states import RecipientState

Row = dict[str, Any]
_PENDING = RecipientState.PENDING.value
_DETAILS = Outcome._fields[4:]


def mail_to_row(mail: Mail, bucket: date, version: int) -> Row:
    """The row of `emails`."""
    request = mail.request
    recipients, complete, status = mail.derive_standing()
    return {
        "bucket": bucket,
        "id": mail.id,
        "version": version,
        "account": request.account if request else mail.account,
        "status": status,
        "complete": complete,
        "attempts": mail.attempts,
        "recipients": [_outcome_to_json(outcome) for outcome in recipients],
        "message_id": mail.message_id,
        **(_request_to_row(request) if request else {}),
        "ledger_digest": mail.ledger_digest,
        "rivals": [_request_to_row(seen) for seen in mail.requests if seen is not request] or None,
        "held": mail.held,
        "released": mail.released,
        "refused": mail.refused,
        "completed": mail.completed,
        "created_at": mail.created_at,
        "updated_at": mail.updated_at,
    }


def row_to_mail(row: Row) -> Mail:
    """What a row knows."""
    requests = [_row_to_request(rival) for rival in row["rivals"] or ()]
    if row["digest"] is not None:
        requests.append(_row_to_request(row))
    if len(requests) > 1:
        requests.sort(key=lambda seen: seen.position)
    outcomes = [_json_to_outcome(each) for each in row["recipients"] if each["state"] != _PENDING]
    if len(outcomes) > 1:
        outcomes.sort(key=lambda each: each.address)
    return Mail(
        id=row["id"],
        account=row["account"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        requests=tuple(requests),
        outcomes=tuple(outcomes),
        ledger_digest=row["ledger_digest"],
        message_id=row["message_id"],
        attempts=row["attempts"],
        held=row["held"],
        released=row["released"],
        refused=row["refused"],
        completed=row["completed"],
    )


def line_to_row(line: Line, bucket: date) -> Row:
    """The row of `timeline`."""
    return {
        "bucket": bucket,
        "email_id": line.email_id,
        "event_id": line.event_id,
        "type": line.type,
        "account": line.account,
        "at": line.at,
        "topic": line.record.topic,
        "partition": line.record.partition,
        "offset": line.record.offset,
        "data": line.data,
    }


def _request_to_row(seen: RequestSeen) -> Row:
    return {
        "digest": seen.digest,
        "account": seen.account,
        "api_key_id": seen.api_key_id,
        "sender": seen.sender,
        "addressees": {"to": seen.to, "cc": seen.cc, "bcc": seen.bcc, "all": seen.addresses},
        "subject": seen.subject,
        "tags": seen.tags,
        "metadata": seen.metadata,
        "mailing_id": seen.mailing_id,
        "batch_id": seen.batch_id,
        "retry_of": seen.retry_of,
        "send_at": seen.send_at,
        "expires_at": seen.expires_at,
        "test": seen.test,
        "requested_at": seen.requested_at,
        "recorded_at": seen.recorded_at,
        "topic": seen.topic,
        "partition": seen.partition,
        "offset": seen.offset,
    }


def _row_to_request(row: Row) -> RequestSeen:
    addressees = row["addressees"]
    return RequestSeen(  # by position: by name it takes twice as long
        row["digest"],
        row["account"],
        row["sender"],
        tuple(addressees["to"]),
        tuple(addressees["cc"]),
        tuple(addressees["bcc"]),
        tuple(addressees["all"]),
        row["subject"],
        _read_time(row["recorded_at"]),
        row["topic"],
        row["partition"],
        row["offset"],
        row["metadata"] or {},
        row["api_key_id"],
        tuple(row["tags"] or ()),
        row["mailing_id"],
        row["batch_id"],
        row.get("retry_of"),  # rivals stored by an older release have none
        _maybe_time(row["send_at"]),
        _maybe_time(row["expires_at"]),
        bool(row["test"]),
        _maybe_time(row["requested_at"]),
    )


def _outcome_to_json(outcome: Outcome) -> Row:
    said: Row = {
        "address": outcome.address,
        "state": outcome.state,  # as the text it is: asking an enum for its value takes longer than the rest
        "attempt": outcome.attempt,
        "at": outcome.at,
    }
    for name, value in zip(_DETAILS, outcome[4:], strict=True):
        if value is not None:
            said[name] = value
    return said


def _json_to_outcome(value: Row) -> Outcome:
    return Outcome(**{**value, "state": RecipientState(value["state"]), "at": _read_time(value["at"])})


def _read_time(value: str | datetime) -> datetime:
    """Times are text inside JSON columns, and times in columns of their own."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _maybe_time(value: str | datetime | None) -> datetime | None:
    return None if value is None else _read_time(value)
