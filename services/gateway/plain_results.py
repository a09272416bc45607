"""What nearly every mail ends with, read without the event's model: one recipient, sent, nothing outstanding. Pure.

Whatever is in any way unlike what our sender writes is left to the model; so is the word on what cannot be read. Where
both read an event they say the same (tests/unit/test_gateway_plain_results.py).
"""

import re
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from shared.events import EventType, make_uuid, name_event

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d\.\d{3}Z")
_NEVER = 2**31  # no number of ours
_TEXTS = ("message_id", "relay", "response")
_MAYBE_TEXTS = ("callback", "mailing_id", "batch_id")


class PlainSent(NamedTuple):
    """The event as far as the read model keeps it. `event_id` is what `EmailSent.event_id` gives, `name` its text."""

    id: UUID
    event_id: UUID
    name: str
    attempt: int
    address: str
    account: str
    digest: str
    message_id: str
    relay: str
    response: str
    paced: bool


def read_plain_sent(data: dict[str, Any]) -> PlainSent | None:
    """The event of this data, None where only the model can tell."""
    get = data.get
    own, attempt, recipients = get("id"), get("attempt"), get("recipients")
    if not (type(own) is str and _ID.fullmatch(own) and type(attempt) is int and 0 <= attempt < _NEVER):
        return None
    if get("outstanding") != 0 or type(data["outstanding"]) is not int or get("complete") is not True:
        return None
    if type(recipients) is not list or len(recipients) != 1:
        return None
    address = recipients[0]
    if type(address) is not str or "\0" in address or not _says_the_same(get("outcomes"), address, attempt):
        return None
    texts: list[Any] = [get("account", "default"), get("digest", ""), *map(get, _TEXTS)]
    for text in texts:
        if type(text) is not str:
            return None
    if not _is_plain_echo(data):
        return None
    name = name_event(own, EventType.SENT, attempt, "", final=True, recipients=recipients)
    ids = make_uuid(int(own.replace("-", ""), 16)), make_uuid(int(name.replace("-", ""), 16))
    return PlainSent(*ids, name, attempt, address, *(*texts, get("paced", False)))


def _says_the_same(outcomes: Any, address: str, attempt: int) -> bool:
    """Whether the summary adds nothing to what the event says itself."""
    if type(outcomes) is not list or len(outcomes) != 1:
        return False
    (told,) = outcomes
    return (
        type(told) is dict
        and told.get("address") == address
        and told.get("state") == "sent"
        and type(told.get("attempt")) is int
        and told["attempt"] == attempt
    )


def _is_plain_echo(data: dict[str, Any]) -> bool:
    """Whether the model would take what the read model does not keep."""
    get = data.get
    sent_at, tags = get("sent_at"), get("tags")
    if type(sent_at) is not str or not _TIME.fullmatch(sent_at) or not _is_time(sent_at):
        return False
    if type(get("metadata")) is not dict or type(tags) is not list:
        return False
    for tag in tags:
        if type(tag) is not str:
            return False
    for name in _MAYBE_TEXTS:
        text = get(name)
        if text is not None and type(text) is not str:
            return False
    return type(get("test", False)) is bool and type(get("paced", False)) is bool


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
