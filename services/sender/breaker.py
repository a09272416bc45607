"""When a relay gets no mail, and when it is asked again (P10). Pure: randomness is handed in."""

from dataclasses import dataclass
from enum import StrEnum


class Gate(StrEnum):
    """Whether mail goes to a relay."""

    CLOSED = "closed"
    """All of it, as in an electric circuit."""
    TRIAL = "trial"
    """A connection is open again: one mail at a time, until one has had an answer that is about the mail."""
    OPEN = "open"
    """None; probes look for the relay's return."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """`failures` connects, or `troubles` in a row without an answer to any mail open the breaker.

    Then a probe after growing pauses, the last ones of `last_probe_s` at most, so that mail flows within 10 s of a
    return. What only an operator can mend is tried every `operators_probe_s`: a server may lock out who guesses.
    `retry_s` is the pause between connects before it opens. A relay that takes mail but refuses one more connection is
    asked for more after the same pause, twice as long each time that it refuses again, up to `more_after_s`.
    """

    failures: int = 3
    troubles: int = 5
    retry_s: float = 0.2
    first_probe_s: float = 0.5
    last_probe_s: float = 3.0
    operators_probe_s: float = 30.0
    more_after_s: float = 10.0


class Breaker:
    """Counts what went wrong in a row, at whatever connection: any answer to a mail between shows that the relay works.

    Methods that may open it, or close it, say whether they just have.
    """

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.gate = Gate.CLOSED
        self.failures = 0  # connects since one last succeeded
        self.troubled = False  # whether a success would change anything
        self._troubles = 0
        self._probes = 0
        self._declined = 0
        self._operators = False

    def on_refused(self, *, operators: bool, others_under_way: bool) -> bool:
        """A connect failed. A relay that is full says so at once to the many, while the few it takes shake hands."""
        self.failures += 1
        if self.gate is Gate.OPEN:
            self._operators = operators
            return False
        if self.gate is Gate.TRIAL or operators or (self.failures >= self.policy.failures and not others_under_way):
            return self._open(operators=operators)
        return False

    def on_connected(self) -> None:
        """A connect succeeded: after an outage, mail must show the rest."""
        self.failures = self._declined = 0
        if self.gate is Gate.OPEN:
            self.gate = Gate.TRIAL

    def on_trouble(self, *, operators: bool) -> bool:
        """The relay's own trouble: a connection that carried mail broke or hung, or an answer that is about no mail."""
        self.troubled = True
        self._troubles += 1
        if self.gate is Gate.OPEN:
            return False
        if self.gate is Gate.TRIAL or operators or self._troubles >= self.policy.troubles:
            return self._open(operators=operators)
        return False

    def on_answered(self) -> bool:
        """A mail had an answer of its own, whatever it was: the relay works."""
        self._troubles = 0
        self.troubled = False
        if self.gate is not Gate.TRIAL:
            return False
        self.gate, self._probes = Gate.CLOSED, 0
        return True

    def next_pause_s(self, chance: float) -> float:
        """The pause before the next probe; `chance` from 0 to 1 spreads the probes of many processes."""
        policy = self.policy
        longest = policy.operators_probe_s if self._operators else policy.last_probe_s
        first = longest if self._operators else policy.first_probe_s
        pause_s = min(first * float(2 ** min(self._probes, 20)), longest)
        self._probes += 1
        return pause_s * (0.7 + 0.3 * chance)

    def next_more_s(self) -> float:
        """How long a relay that takes mail, but has refused one more connection, is not asked for more."""
        pause_s = min(self.policy.retry_s * float(2 ** min(self._declined, 20)), self.policy.more_after_s)
        self._declined += 1
        return pause_s

    def _open(self, *, operators: bool) -> bool:
        self.gate = Gate.OPEN
        self.troubled = True
        self._troubles = 0
        self._operators = operators
        return True
