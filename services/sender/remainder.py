"""What is left of a mail where a relay takes only so many recipients at a time. Pure.

RFC 5321 §4.5.3.1.10: those refused with 452 "too many recipients" are to be sent in another transaction. It belongs to
the same attempt: no pause, and nobody hears of the mail before its last part has ended.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.sender.classify import lacks_room
from services.sender.parcel import Ending, Parcel

MAX_PARTS = 20
"""Of one mail in one attempt: a relay that keeps to RFC 5321 §4.5.3.1.8 needs 10 for 1,000 recipients."""


@dataclass(slots=True, eq=False)
class Remainder(Parcel):
    """The recipients that the transaction before had no room for; `places` are theirs in `whole`.

    It goes on, or ends: never back to where mail comes from, for others have got theirs.
    """

    whole: Parcel | None = None
    places: list[int] = field(default_factory=list)
    part: int = 2


def split(parcel: Parcel, now: float) -> Remainder | None:
    """The next part of a mail that some recipients were just sent; None where all have had their answer."""
    part = parcel.part + 1 if isinstance(parcel, Remainder) else 2
    replies = parcel.replies
    places = [place for place, reply in enumerate(replies) if reply and lacks_room(reply)]
    progress = parcel.content_answered and any(reply and reply.code < 300 for reply in replies)
    if not places or not progress or part > MAX_PARTS:
        return None
    return Remainder(
        sender=parcel.sender,
        recipients=[parcel.recipients[place] for place in places],
        content=parcel.content,
        may_write=parcel.may_write,
        on_done=_complete,
        context=parcel.context,
        needs_utf8=parcel.needs_utf8,
        queued=now,
        whole=parcel,
        places=places,
        part=part,
    )


def _complete(parcel: Parcel) -> None:
    """The ending of the whole, now that its last part has one."""
    assert isinstance(parcel, Remainder)
    assert parcel.whole
    whole = parcel.whole
    if parcel.ending in (Ending.ANSWERED, Ending.UNANSWERED):  # otherwise they keep the answer they have
        told = [*parcel.replies, *[None] * (len(parcel.places) - len(parcel.replies))]
        for place, reply in zip(parcel.places, told, strict=True):
            whole.replies[place] = reply
        whole.ending, whole.diagnostic = parcel.ending, parcel.diagnostic
    whole.on_done(whole)


def sort_out(parcels: Iterable[Parcel]) -> list[Parcel]:
    """Those that may go back to where they came from. Remainders end instead: their recipients are deferred."""
    returning = []
    for parcel in parcels:
        if isinstance(parcel, Remainder):
            parcel.carrier = None
            parcel.end(Ending.INTERRUPTED, "it could not go on at once")
        else:
            returning.append(parcel)
    return returning
