"""Between a mail and the wire: its parcel on the way out, its outcomes on the way back. Pure."""

from collections.abc import Callable

from services.sender.classify import Deferred, Outcome, Sent, Unknown, classify
from services.sender.message import BuiltMessage
from services.sender.parcel import Ending, Parcel
from services.sender.safety import OFF, Safety
from services.sender.work import Work


def pack(
    work: Work,
    message: BuiltMessage,
    may_write: Callable[[], bool],
    on_done: Callable[[Parcel], None],
    safety: Safety = OFF,
) -> Parcel:
    """The parcel for the recipients still pending, or for whoever gets their mail instead."""
    mail = work.mail
    message = safety.mark(message, work.pending)
    return Parcel(
        sender=(mail.envelope_from or mail.from_.address).encode(),
        recipients=[address.encode() for address in safety.address(work.pending)],
        content=message.content,
        may_write=may_write,
        on_done=on_done,
        context=work,
        needs_utf8=message.needs_utf8,
        troubles=work.troubles,
    )


def assess(work: Work, parcel: Parcel) -> dict[str, Outcome]:
    """What the ending of a transmission means for each pending recipient."""
    if parcel.content_answered and len(work.pending) == 1 and len(parcel.replies) == 1:
        only = parcel.replies[0]
        if only is not None and 200 <= only.code < 300:  # what becomes of nearly every mail
            return {work.pending[0]: Sent(only)}
    outcomes: dict[str, Outcome] = {}
    answers_dot = parcel.content_answered  # of a part of it, where another part had no answer (remainder.py)
    if len(parcel.recipients) == 1:  # the only one, or the one that all mail is redirected to
        replies = list(parcel.replies or [None]) * len(work.pending)
    else:
        replies = [*parcel.replies, *[None] * (len(work.pending) - len(parcel.replies))]
    for address, reply in zip(work.pending, replies, strict=True):
        if reply is not None:
            outcomes[address] = classify(reply, content_written=answers_dot)
        elif parcel.ending is Ending.UNANSWERED:
            outcomes[address] = Unknown(f"no reply after the content was written: {parcel.diagnostic}")
        else:
            outcomes[address] = Deferred(None, parcel.diagnostic)
    return outcomes
