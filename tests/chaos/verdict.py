"""What a scenario found, as a value: counted at the relay, on the topics and in the database."""

from dataclasses import asdict, dataclass, field
from typing import Any

_APART = ("scenario", "cells", "notes", "faults")


def _describe_cell(cell: dict[str, Any]) -> str:
    return (
        f"{cell['fault']} {cell['moment']} {cell['way']}: {cell['mails']} mails, {cell['doubles']} doubles, "
        f"{cell['unknowns']} unknown, the last end after {cell['slowest_s']:.1f} s; took {cell['seconds']:.1f} s"
    )


@dataclass
class Verdict:
    """One scenario's figures. A delivery is one mail taken by the relay for one recipient; times are seconds."""

    scenario: str
    mails: int = 0
    """Mails that Kafka holds for certain."""
    maybe: int = 0
    """Mails whose request got 503 with `outcome: unknown`: they may be sent once, or not at all."""
    sent: int = 0
    """Mails the ledger shows as sent to everybody, and the topic with a completing event."""
    lost: int = 0
    """Deliveries due that the relay never saw."""
    doubles: int = 0
    """Deliveries beyond the first of each mail and recipient."""
    hidden_doubles: int = 0
    """Those of them whose mail the ledger does not show as once unknown."""
    strangers: int = 0
    """Deliveries nobody has asked for."""
    unknown: int = 0
    """Mails whose outcome the ledger shows as once unknown."""
    takeovers: int = 0
    redeliveries: int = 0
    kills: int = 0
    restarts: int = 0
    """Unexpected ends of a process that nobody here had killed."""
    deadlocks: int = 0
    seconds: float = 0.0
    exits_s: list[float] = field(default_factory=list)
    """How long each process took to end after SIGTERM."""
    reconcile: str = "-"
    notes: list[str] = field(default_factory=list)
    cells: list[dict[str, Any]] = field(default_factory=list)
    """Of the kill matrix: what each cell found."""
    faults: list[str] = field(default_factory=list)
    """What broke a promise; empty when all were kept."""

    def require(self, kept: bool, fault: str) -> None:
        """Note a fault unless the promise was kept."""
        if not kept:
            self.faults.append(fault)

    def require_nothing_lost(self) -> None:
        """Nothing lost, everything told, no double that the ledger does not show, no deadlock, no stranger."""
        self.require(self.lost == 0, f"{self.lost} deliveries lost")
        self.require(self.sent >= self.mails, f"{self.mails - self.sent} mails not sent, or without a completing event")
        self.require(self.hidden_doubles == 0, f"{self.hidden_doubles} doubles the ledger does not show as unknown")
        self.require(self.strangers == 0, f"{self.strangers} deliveries nobody asked for")
        self.require(self.deadlocks == 0, f"{self.deadlocks} deadlocks")

    def require_no_double(self) -> None:
        """No delivery twice, and no outcome called unknown that was not."""
        self.require(self.doubles == 0, f"{self.doubles} doubles")
        self.require(self.unknown == 0, f"{self.unknown} mails called unknown")

    def require_exit_within(self, limit_s: float) -> None:
        """Every process ended in time after its SIGTERM."""
        slow = [f"{each:.1f}" for each in self.exits_s if each > limit_s]
        self.require(not slow, f"exit after {', '.join(slow)} s; {limit_s:.0f} s were allowed")

    def describe(self) -> str:
        """Lines for people."""
        rows = {name: value for name, value in asdict(self).items() if name not in _APART}
        rows["exits_s"] = ", ".join(f"{each:.1f}" for each in self.exits_s) or "-"
        rows["seconds"] = f"{self.seconds:.0f}"
        lines = [f"{self.scenario}: {'FAULT' if self.faults else 'kept'}"]
        lines += ["  " + "  ".join(f"{name}={value}" for name, value in rows.items())]
        lines += [f"  {_describe_cell(each)}" for each in self.cells]
        lines += [f"  note: {each}" for each in self.notes]
        lines += [f"  FAULT: {each}" for each in self.faults]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
