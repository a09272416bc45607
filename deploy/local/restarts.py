"""When a process that ended is started again. Pure: time is an argument."""

from dataclasses import dataclass

EARLY_S = 10.0
_FREE_EARLY_EXITS = 3
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0


@dataclass
class RestartPolicy:
    """Half a second after an exit, and ever later after three early exits in a row."""

    early_exits: int = 0

    def delay_after(self, ran_for_s: float) -> float:
        """Give the seconds to wait before the next start, after a run of ``ran_for_s`` seconds."""
        self.early_exits = self.early_exits + 1 if ran_for_s < EARLY_S else 0
        beyond = min(max(self.early_exits - _FREE_EARLY_EXITS, 0), 10)
        return float(min(_FIRST_DELAY_S * 2**beyond, _LONGEST_DELAY_S))
