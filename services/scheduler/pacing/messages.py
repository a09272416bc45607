"""What bulk mail is published as when it leaves: mails of one content together, others each alone. Pure.

The JSON is joined from stored pieces; only ids and `expires_at` are written now.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from types import MappingProxyType
from uuid import UUID

from services.scheduler.failures import SOURCE
from services.scheduler.pacing.rows import make_whole
from services.scheduler.pacing.store import QueuedMail
from services.scheduler.unsubscribing.lane_links import MakeLink
from services.scheduler.unsubscribing.links import LINK_ROOM
from shared.events import EventType, Namespace, build_headers, format_time
from shared.producing import Message
from shared.tracing import SpanKind, begin_hop

MAILS_PER_EVENT = 100
"""A partition is worked through in order: what comes behind a bulk event waits for all of it to be claimed."""

Bodies = Mapping[tuple[int, UUID], bytes]
_NO_LINKS: Mapping[int, MakeLink] = MappingProxyType({})


class Writer:
    """Writes the messages of one group. `event_limit`: bytes of an event.

    A group that is published again has the same mails, less those that have had a result; each keeps its id.
    """

    def __init__(self, topic: str, event_limit: int) -> None:
        self._topic = topic
        self._limit = event_limit

    def write(
        self,
        group_id: UUID,
        mails: Sequence[QueuedMail],
        bodies: Bodies,
        now: datetime,
        links: Mapping[int, MakeLink] = _NO_LINKS,
    ) -> list[Message]:
        """The messages of mails that come sorted by content and expiry. `links` make those of recipients, by lane."""
        names = Namespace(group_id)
        messages: list[Message] = []
        for (lane, content, expires_at), alike in groupby(mails, key=_alike):
            expiry, link = format_time(expires_at).encode(), links.get(lane)
            if content is None:
                messages.extend(self._write_single(mail, expiry, now, link) for mail in alike)
                continue
            body = bodies[lane, content]
            head = body.removesuffix(b"}")
            for part in _divide(alike, self._limit - len(head), LINK_ROOM if link else 0):
                if len(part) == 1:
                    [mail] = part
                    whole = mail._replace(own=make_whole(mail.id, body, mail.own))
                    messages.append(self._write_single(whole, expiry, now, link))
                    continue
                bulk_id = names.name(str(part[0].id))
                value = b'%b,"bulk_id":"%b","expires_at":"%b","mails":[%b]}' % (
                    head,
                    str(bulk_id).encode(),
                    expiry,
                    b",".join([_write_entry(mail, link) for mail in part]),
                )
                messages.append(self._address(EventType.BULK_REQUESTED, bulk_id, value, part[0].traceparent, now))
        return messages

    def _write_single(self, mail: QueuedMail, expiry: bytes, now: datetime, link: MakeLink | None) -> Message:
        value = b'%b%b,"expires_at":"%b"}' % (mail.own.removesuffix(b"}"), _write_link(mail, link), expiry)
        return self._address(EventType.REQUESTED, mail.id, value, mail.traceparent, now)

    def _address(self, kind: EventType, key: UUID, value: bytes, traceparent: str | None, now: datetime) -> Message:
        hop = begin_hop("publish email.requested", SpanKind.PRODUCER, traceparent)
        hop.end()
        return Message(self._topic, str(key).encode(), value, build_headers(kind, key, SOURCE, now, hop.traceparent))


def list_places(mails: Iterable[QueuedMail]) -> list[tuple[int, UUID]]:
    """The contents that mails leave with, each once."""
    return sorted({(mail.lane, mail.content) for mail in mails if mail.content is not None})


def divide_by_contents(mails: Sequence[QueuedMail], most: int) -> Iterator[list[QueuedMail]]:
    """Mails that come sorted by content, in portions of up to `most` contents."""
    some: list[QueuedMail] = []
    seen: set[tuple[int, UUID | None]] = set()
    for mail in mails:
        place = mail.lane, mail.content
        if place not in seen and len(seen) == most:
            yield some
            some, seen = [], set()
        seen.add(place)
        some.append(mail)
    if some:
        yield some


def _alike(mail: QueuedMail) -> tuple[int, UUID | None, datetime]:
    return mail.lane, mail.content, mail.expires_at


def _write_entry(mail: QueuedMail, link: MakeLink | None) -> bytes:
    return b'{"id":"%b"%b,%b' % (str(mail.id).encode(), _write_link(mail, link), mail.own[1:])


def _write_link(mail: QueuedMail, link: MakeLink | None) -> bytes:
    """Made now and kept nowhere: for a million recipients it would be more than all else that is kept of them."""
    if link is None or mail.recipient is None:
        return b""
    return b',"unsubscribe_url":"%b"' % link(mail.recipient).encode()


def _divide(mails: Iterable[QueuedMail], room: int, more: int) -> Iterator[list[QueuedMail]]:
    """Parts that fit into one event; `room` is what the content leaves of it, `more` what each mail gets added."""
    part: list[QueuedMail] = []
    size = _FRAME
    for mail in mails:
        own = len(mail.own) + _ENTRY_FRAME + more
        if part and (len(part) == MAILS_PER_EVENT or size + own > room):
            yield part
            part, size = [], _FRAME
        part.append(mail)
        size += own
    if part:
        yield part


_FRAME, _ENTRY_FRAME = 150, 50  # bytes around the entries of an event, and around one
