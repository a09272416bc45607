"""What the kill matrix is made of: faults, moments and ways of a mail, and the combinations that cannot occur. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from shared.failpoints import PUBLISHER_ACKNOWLEDGED


class Fault(StrEnum):
    """What happens to the process."""

    KILL = "kill"
    TERM = "term"
    PAUSE = "pause"
    FREEZE = "freeze"

    @property
    def label(self) -> str:
        """For the table."""
        return _TITLES[self]

    @property
    def action(self) -> str:
        """What the failpoint does: both freezes begin alike."""
        return {Fault.KILL: "kill", Fault.TERM: "term"}.get(self, "stop")

    @property
    def spares_outcomes(self) -> bool:
        """Whether nothing may become unknown, so that there may be no double either."""
        return self in (Fault.TERM, Fault.PAUSE)


_TITLES = {
    Fault.KILL: "SIGKILL",
    Fault.TERM: "SIGTERM",
    Fault.PAUSE: "SIGSTOP, SIGCONT within the lease",
    Fault.FREEZE: "SIGSTOP, SIGCONT after the lease",
}


class Way(StrEnum):
    """How the mails come to the process."""

    KAFKA = "kafka"
    DUE = "due"
    BULK = "bulk"

    @property
    def label(self) -> str:
        """For the table."""
        return {
            Way.KAFKA: "single mails from Kafka",
            Way.DUE: "deferred mails tried again",
            Way.BULK: "the middle of a bulk event",
        }[self]


STAGES = ("decode", "refuse", "claim", "build", "settle", "publish", "release", "park")
"""The sender's; tests/unit/test_failpoints.py holds them against the pipeline."""

AT_CONTENT, AT_DOT = "wire.content", "wire.dot"
WIRE = (AT_CONTENT, AT_DOT)
"""Where there is no failpoint and the relay tells: it has the envelope, or the content without having answered."""

MOMENTS = (
    *("decode.before", "decode.after", "refuse.before", "refuse.after", "claim.before", "claim.after"),
    *("build.before", "build.after", *WIRE, "settle.before", "settle.after"),
    *("publish.before", PUBLISHER_ACKNOWLEDGED, "publish.after"),
    *("release.before", "release.after", "park.before", "park.after"),
)

_ONCE_A_RECORD = ("decode", "refuse")
_ONCE_A_CELL = (*_ONCE_A_RECORD, "release", "park")


@dataclass(frozen=True)
class Cell:
    """One fault at one moment of one way."""

    fault: Fault
    moment: str
    way: Way

    @property
    def name(self) -> str:
        """`kill claim.after bulk`."""
        return f"{self.fault} {self.moment} {self.way}"

    @property
    def mark(self) -> str:
        """What its mails carry as a tag, so that the fault meets these and no others."""
        return f"cell:{self.fault}:{self.moment}:{self.way}"

    @property
    def stage(self) -> str:
        """`claim`; `wire` and `publisher` besides the pipeline's own."""
        return self.moment.partition(".")[0]

    @property
    def on_wire(self) -> bool:
        """Whether the relay tells of the moment."""
        return self.moment in WIRE

    @property
    def failpoint(self) -> str:
        """As MILENA_TEST_FAILPOINTS wants it. Of a bulk event the second group is met: one has gone before."""
        hit = 2 if self.way is Way.BULK and self.stage not in _ONCE_A_CELL else 1
        return f"{self.moment}[{self.mark}]={self.fault.action}@{hit}"

    @property
    def impossible(self) -> str | None:
        """Why it cannot occur."""
        if self.way is Way.DUE and self.stage in _ONCE_A_RECORD:
            return "a due row holds a mail that was read and found good: these stages take records of Kafka only"
        return None


def list_cells(fault: Fault) -> Iterator[Cell]:
    """Every combination that can occur."""
    for way in Way:
        for moment in MOMENTS:
            cell = Cell(fault, moment, way)
            if not cell.impossible:
                yield cell
