"""From what was sent to what is stored: every rule a mailing must keep. Pure but for the problems it raises."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, time
from typing import Any

import orjson

from services.scheduler.mailings.audience import Audience
from services.scheduler.mailings.bodies import (
    DailyHours,
    MailingAdjustments,
    MailingAudience,
    MailingContent,
    NewMailing,
)
from services.scheduler.mailings.content import Errors, check_content
from services.scheduler.mailings.hours import Hours
from services.scheduler.mailings.mailing import MailingDefinition
from shared.access import ApiKey
from shared.bodies import parse_model
from shared.composing.refusing import refuse_sender
from shared.problems import Problem, invalid_content


def define(
    wanted: NewMailing, key: ApiKey, now: datetime, event_limit: int, before: MailingDefinition | None = None
) -> MailingDefinition:
    """The definition of a mailing. Raises Problem 403, 413, 422 with all that is wrong.

    A time that is over is none, unless it is what it was `before`: that is looked at again when it is started.
    """
    content = _write_content(wanted.content, key)
    errors = [{**each, "pointer": f"/content{each['pointer']}"} for each in check_content(content)]
    if wanted.unsubscribe:
        errors += _refuse_link_fields(wanted.content.headers)
    definition = MailingDefinition(
        name=wanted.name,
        content=content,
        audience=_read_audience(wanted.audience),
        start_at=wanted.start_at,
        finish_at=wanted.finish_at,
        hours=_read_hours(wanted.hours),
        rate=wanted.rate,
        unsubscribe=wanted.unsubscribe,
    )
    said = ("start_at", "finish_at")
    kept = {f"/{name}" for name in said if before and getattr(before, name) == getattr(wanted, name)}
    errors += [each for each in check_times(definition, now) if each["pointer"] not in kept]
    if errors:
        raise invalid_content(errors)
    refuse_senders(definition, key)
    _bound(content, event_limit)
    return definition


def change(
    before: MailingDefinition, given: Mapping[str, Any], key: ApiKey, now: datetime, event_limit: int
) -> MailingDefinition:
    """The definition that changes (an object as it was sent) make of another: the whole has to be right.

    Raises Problem 403, 413, 422.
    """
    fields = {**to_fields(before), **given}
    content = given.get("content")
    if isinstance(content, dict):
        merged = {**before.content, **content}
        fields["content"] = {name: value for name, value in merged.items() if value is not None}
    return define(parse_model(fields, NewMailing), key, now, event_limit, before)


def adjust(before: MailingDefinition, given: Mapping[str, Any], now: datetime) -> MailingDefinition:
    """The definition that changes make of one that runs. Raises Problem 422."""
    wanted = parse_model(dict(given), MailingAdjustments)
    changed = replace(before, **{name: getattr(wanted, name) for name in wanted.model_fields_set})
    if wanted.finish_at and wanted.finish_at <= now and wanted.finish_at != before.finish_at:
        detail = "lies in the past; to let nothing more leave, pause or cancel it"
        raise invalid_content([{"detail": detail, "pointer": "/finish_at"}])
    return changed


def to_fields(definition: MailingDefinition) -> dict[str, Any]:
    """A definition as the body it could have been made with."""
    audience = definition.audience
    return {
        "name": definition.name,
        "content": dict(definition.content),
        "audience": {"list": str(audience.list)} if audience.list else audience.to_json(),
        "start_at": definition.start_at,
        "finish_at": definition.finish_at,
        "hours": definition.hours.to_json() if definition.hours else None,
        "rate": definition.rate,
        "unsubscribe": definition.unsubscribe,
    }


def check_times(definition: MailingDefinition, now: datetime) -> Errors:
    """What is over, or never comes."""
    start_at, finish_at = definition.start_at, definition.finish_at
    errors: Errors = []
    if start_at and start_at <= now:
        detail = "lies in the past; leave it out, and it begins as soon as it is started"
        errors.append({"detail": detail, "pointer": "/start_at"})
    if finish_at and finish_at <= now:
        errors.append({"detail": "lies in the past: nothing would leave", "pointer": "/finish_at"})
    elif finish_at and start_at and finish_at <= start_at:
        errors.append({"detail": "must lie after start_at", "pointer": "/finish_at"})
    return errors


def refuse_senders(definition: MailingDefinition, key: ApiKey) -> None:
    """Raises Problem 403 where the key may not send from the addresses this is from."""
    if field := find_refused_sender(definition, key):
        raise refuse_sender(field, under="/content")


def find_refused_sender(definition: MailingDefinition, key: ApiKey) -> str | None:
    """The field whose address the key may not send from."""
    content = MailingContent.model_validate(dict(definition.content))
    assert content.from_ is not None, "define has given it one"
    if not key.may_send_from(content.from_.address):
        return "from"
    return "envelope_from" if content.envelope_from and not key.may_send_from(content.envelope_from) else None


def _refuse_link_fields(headers: Mapping[str, str]) -> Errors:
    """What `unsubscribe` sets."""
    detail = "is set where `unsubscribe` is true; leave it out, or set that false"
    names = [name for name in headers if name.lower() in ("list-unsubscribe", "list-unsubscribe-post")]
    return [{"detail": detail, "pointer": f"/content/headers/{name}"} for name in names]


def _write_content(wanted: MailingContent, key: ApiKey) -> dict[str, Any]:
    """As `email.bulk_requested` has it: what is not the default."""
    content = wanted.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    if "from" not in content:
        if key.only_sender is None:
            detail = "is needed: the API key may send from more than one address"
            raise invalid_content([{"detail": detail, "pointer": "/content/from"}])
        content["from"] = key.only_sender
    return content


def _read_audience(wanted: MailingAudience) -> Audience:
    tags = {name: tuple(given) for name, given in wanted.tags.model_dump().items()}
    return Audience(list=wanted.list, **tags, attributes=wanted.attributes)


def _read_hours(wanted: DailyHours | None) -> Hours | None:
    if wanted is None:
        return None
    return Hours(time.fromisoformat(wanted.from_), time.fromisoformat(wanted.to), wanted.timezone)


def _bound(content: Mapping[str, Any], event_limit: int) -> None:
    """Half of an event is left for what differs from recipient to recipient."""
    size, limit = len(orjson.dumps(content)), event_limit // 2
    if size > limit:
        detail = f"The content may have at most {limit} bytes as JSON; this has {size}."
        raise Problem(413, "too-large", detail, limit=limit)
