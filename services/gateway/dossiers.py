"""What records say of one id, small enough to keep for every id of a day: status and timeline, no content. Pure.

Packed, a mail with one recipient, its request and its result takes about 380 bytes, 570 with its place in a dict
(measured). Each further recipient takes about 100, each further event 32.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

import orjson

from services.gateway.lines import Observation
from services.gateway.projection import Mail, Outcome, RequestSeen
from shared.events import EventType
from shared.states import RecipientState

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SPOTS = 8


@dataclass(frozen=True, slots=True)
class Dossier:
    """What is known of one id. Merging two of them is how observations add up, in any order.

    `mail` has no content, and is None where only a cancellation was seen; `lines` are its timeline's event ids;
    `asked_at` is the first request that the sender may act on, `retry_at` the latest retry that was announced, `moved`
    when its `send_at` was last changed, and to which time; `spots` are where its requests lie, eight at most, each with
    whether the scheduler is to hold it.
    """

    mail: Mail | None
    lines: frozenset[UUID]
    asked_at: datetime | None = None
    retry_at: datetime | None = None
    moved: tuple[datetime, datetime] | None = None
    spots: frozenset[tuple[bool, int, int]] = frozenset()

    def merge(self, other: "Dossier") -> "Dossier":
        """What both know together."""
        mail = self.mail.merge(other.mail) if self.mail and other.mail else self.mail or other.mail
        asked_at = [each for each in (self.asked_at, other.asked_at) if each]
        retry_at = [each for each in (self.retry_at, other.retry_at) if each]
        moved = max((each for each in (self.moved, other.moved) if each), default=None)
        spots = frozenset(sorted(self.spots | other.spots)[:_SPOTS])
        lines = self.lines | other.lines
        return Dossier(mail, lines, min(asked_at, default=None), max(retry_at, default=None), moved, spots)

    def pack(self) -> bytes:
        """As bytes, for `unpack`."""
        lines = "".join(each.hex for each in sorted(self.lines))
        mail = _pack_mail(self.mail) if self.mail else None
        moved = [_to_us(time) for time in self.moved or ()]
        packed = orjson.dumps([mail, lines, _to_us(self.asked_at), _to_us(self.retry_at), moved, list(self.spots)])
        return bytes(memoryview(packed))  # a copy: orjson's own holds on to 4 KiB

    @property
    def asked(self) -> set[tuple[int, int]]:
        """Partition and offset of the requests somebody must answer: the sender's, or else the scheduler's."""
        return {(part, offset) for held, part, offset in self.spots if not held} or {
            (part, offset) for _, part, offset in self.spots
        }


def open_dossier(observed: Observation) -> Dossier:
    """What one record says, without content."""
    line, mail = observed.line, observed.mail
    requests = [line.data["held"]] if line.type == EventType.REQUESTED else []
    retry_at, moved_at = line.data.get("retry_at"), line.data.get("rescheduled_at")
    moved = (datetime.fromisoformat(moved_at), datetime.fromisoformat(line.data["send_at"])) if moved_at else None
    return Dossier(
        strip(mail) if mail else None,
        frozenset((line.event_id,)),
        None if all(requests) else line.at,
        datetime.fromisoformat(retry_at) if retry_at else None,
        moved,
        frozenset((held, line.record.partition, line.record.offset) for held in requests),
    )


def unpack(packed: bytes, email_id: UUID) -> Dossier:
    """What `pack` packed."""
    mail, lines, asked_at, retry_at, moved, spots = orjson.loads(packed)
    return Dossier(
        _unpack_mail(mail, email_id) if mail else None,
        frozenset(UUID(hex=lines[start : start + 32]) for start in range(0, len(lines), 32)),
        _from_us(asked_at),
        _from_us(retry_at),
        (_read_us(moved[0]), _read_us(moved[1])) if moved else None,
        frozenset((held, part, offset) for held, part, offset in spots),
    )


def strip(mail: Mail) -> Mail:
    """The mail without what its status does not depend on. Merging what is stripped gives the same as stripping
    what is merged: of an outcome's words it stays known whether there were any, of a request a fingerprint."""
    requests = [
        seen._replace(
            sender="",
            to=(),
            cc=(),
            bcc=(),
            subject=_fingerprint(seen),
            topic="",
            api_key_id=None,
            tags=(),
            metadata={},
            mailing_id=None,
            batch_id=None,
            retry_of=None,
            expires_at=None,
            requested_at=None,
            test=False,
        )
        for seen in mail.requests
    ]
    outcomes = [
        Outcome(
            each.address, each.state, each.attempt, each.at, response="+" if each.response else None, reason=each.reason
        )
        for each in mail.outcomes
    ]
    return mail._replace(requests=tuple(requests), outcomes=tuple(outcomes), message_id=None)


def _fingerprint(seen: RequestSeen) -> str:
    """Of what the read model keeps of a request; metadata left out, for jsonb writes numbers in its own way."""
    parts = (seen.sender, *seen.to, "", *seen.cc, "", *seen.bcc, "", seen.subject, *seen.tags, "")
    text = "\n".join((*parts, seen.mailing_id or "", seen.batch_id or "")).replace("\0", "\ufffd")
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _pack_mail(mail: Mail) -> list[Any]:
    return [
        mail.account,
        _to_us(mail.created_at),
        _to_us(mail.updated_at),
        mail.ledger_digest,
        mail.attempts,
        [mail.held, mail.released, mail.refused, mail.completed],
        [
            [
                seen.digest,
                seen.account,
                seen.addresses,
                _to_us(seen.recorded_at),
                seen.partition,
                seen.offset,
                seen.subject,
            ]
            + ([_to_us(seen.send_at)] if seen.send_at else [])
            for seen in mail.requests
        ],
        [
            [each.address, each.state, each.attempt, _to_us(each.at), each.response, each.reason]
            for each in mail.outcomes
        ],
    ]


def _unpack_mail(packed: list[Any], email_id: UUID) -> Mail:
    account, created_at, updated_at, ledger_digest, attempts, flags, requests, outcomes = packed
    return Mail(
        email_id,
        account,
        _read_us(created_at),
        _read_us(updated_at),
        tuple(_unpack_request(*each) for each in requests),
        tuple(
            Outcome(address, RecipientState(state), attempt, _read_us(at), response=response, reason=reason)
            for address, state, attempt, at, response, reason in outcomes
        ),
        ledger_digest,
        None,
        attempts,
        *flags,
    )


def _unpack_request(
    digest: str,
    account: str,
    addresses: list[str],
    recorded_at: int,
    partition: int,
    offset: int,
    fingerprint: str,
    send_at: int | None = None,
) -> RequestSeen:
    return RequestSeen(
        digest,
        account,
        "",
        (),
        (),
        (),
        tuple(addresses),
        fingerprint,
        _read_us(recorded_at),
        "",
        partition,
        offset,
        {},
        send_at=_from_us(send_at),
    )


def _to_us(time: datetime | None) -> int | None:
    return None if time is None else (time - _EPOCH) // _MICROSECOND


def _read_us(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _from_us(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _read_us(microseconds)
