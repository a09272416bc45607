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
        return code == 354 if self is Step.DATA else 200 <= code < 300


class Exchange:
    """A parcel on the wire."""

    __slots__ = ("accepted", "mail_reply", "parcel", "rcpt_replies", "started", "written")

    def __init__(self, parcel: Parcel) -> None:
        self.parcel = parcel
        self.mail_reply: Reply | None = None
        self.rcpt_replies: list[Reply] = []
        self.accepted = 0  # recipients so far
        self.started = False  # a reply to it has come, other than that the connection takes no more mail
        self.written = False  # its content has gone out

    @property
    def may_have_content(self) -> bool:
        """Whether a 354 is to be followed by the content: sender and a recipient were accepted."""
        return self.accepted > 0 and not self._refused_sender

    def hear_rcpt(self, reply: Reply) -> None:
        """The answer to the next recipient."""
        self.rcpt_replies.append(reply)
        self.accepted += reply.code < 300

    def end_refused(self, reply: Reply) -> None:
        """`reply` ended the mail before its content."""
        parcel = self.parcel
        if self._refused_sender:
            parcel.replies = [self._refused_sender] * len(parcel.recipients)
        else:
            told = [each if each.code >= 300 else reply for each in self.rcpt_replies]
            parcel.replies = [*told, *[reply] * (len(parcel.recipients) - len(told))]
        parcel.end(Ending.ANSWERED)

    def end_answered(self, reply: Reply) -> None:
        """`reply` answers the final dot; recipients refused before keep their own."""
        parcel = self.parcel
        parcel.content_answered = True
        parcel.replies = [each if each.code >= 300 else reply for each in self.rcpt_replies]
        parcel.end(Ending.ANSWERED)

    def end_broken(self, why: str) -> bool:
        """The connection is gone. Returns True where the mail had not begun: once, it may go to another connection."""
        parcel = self.parcel
        if parcel.ending is not None:
            return False
        if not self.started and not parcel.requeues:
            parcel.requeues += 1
            return True
        if self._refused_sender:
            parcel.replies = [self._refused_sender] * len(parcel.recipients)
        else:
            parcel.replies = [each if each.code >= 300 else None for each in self.rcpt_replies]
        parcel.end(Ending.UNANSWERED if self.written else Ending.INTERRUPTED, why)
        return False

    @property
    def _refused_sender(self) -> Reply | None:
        return self.mail_reply if self.mail_reply and self.mail_reply.code >= 300 else None
