"""One mail's way through a conversation: what has been said, and what that means for its parcel. No I/O."""

from enum import Enum

from services.sender.classify import Reply
from services.sender.parcel import Ending, Parcel


class Step(Enum):
    """What a reply answers."""

    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    DOT = "final dot"
    RSET = "RSET"
    QUIT = "QUIT"

    def takes(self, code: int) -> bool:
        """Whether the code may answer this step at all. Otherwise replies are out of step; none can be trusted."""
        if code >= 400:
            return code < 600
        return code == 354 if self is _DATA else 200 <= code < 300


_DATA = Step.DATA


class Exchange:
    """A parcel on the wire."""

    __slots__ = ("accepted", "parcel", "rcpt_replies", "refused_sender", "started", "written")

    def __init__(self, parcel: Parcel) -> None:
        self.parcel = parcel
        self.refused_sender: Reply | None = None
        self.rcpt_replies: list[Reply] = []
        self.accepted = 0  # recipients so far
        self.started = False  # a reply to it has come
        self.written = False  # its content has gone out

    @property
    def may_have_content(self) -> bool:
        """Whether a 354 is to be followed by the content: sender and a recipient were accepted."""
        return self.accepted > 0 and self.refused_sender is None

    def hear_mail(self, reply: Reply) -> None:
        """The answer to the sender. A 421 says only that this connection takes no more: the mail has not begun."""
        self.started = reply.code != 421
        if reply.code >= 300:
            self.refused_sender = reply

    def hear_rcpt(self, reply: Reply) -> None:
        """The answer to the next recipient."""
        self.rcpt_replies.append(reply)
        if reply.code < 300:
            self.accepted += 1

    def end_refused(self, reply: Reply) -> None:
        """`reply` ended the mail before its content."""
        parcel = self.parcel
        if self.refused_sender:
            parcel.replies = [self.refused_sender] * len(parcel.recipients)
        else:
            told = [each if each.code >= 300 else reply for each in self.rcpt_replies]
            parcel.replies = [*told, *[reply] * (len(parcel.recipients) - len(told))]
        parcel.end(Ending.ANSWERED)

    def end_answered(self, reply: Reply) -> None:
        """`reply` answers the final dot; recipients refused before keep their own."""
        parcel = self.parcel
        parcel.content_answered = True
        told = self.rcpt_replies
        parcel.replies = [reply] * self.accepted
        if self.accepted < len(told):
            parcel.replies = [each if each.code >= 300 else reply for each in told]
        parcel.end(Ending.ANSWERED)

    def end_broken(self, why: str) -> bool:
        """The connection is gone. Returns True where the mail had not begun: once, it may go to another connection."""
        parcel = self.parcel
        if parcel.ending is not None:
            return False
        if not self.started and not parcel.requeues:
            parcel.requeues += 1
            return True
        if self.refused_sender:
            parcel.replies = [self.refused_sender] * len(parcel.recipients)
        else:
            parcel.replies = [each if each.code >= 300 else None for each in self.rcpt_replies]
        parcel.end(Ending.UNANSWERED if self.written else Ending.INTERRUPTED, why)
        return False
