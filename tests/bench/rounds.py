"""Running comparisons: their scenarios in turn, round after round, on the same servers."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import NoReturn

import uvloop

from tests.bench.figures import Figures, NotMeasured
from tests.bench.scenarios import Bench, Comparison, Scenario

_BOUND_S = 900
"""No round takes longer, whatever happens."""


@dataclass
class Outcome:
    """What the scenarios have yielded, and why some have not."""

    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False

    def interrupt(self) -> NoReturn:
        """Stop at once, wherever the bench is: what it has started ends on the way out."""
        self.interrupted = True  # an exception inside a protocol's callback goes no further than its event loop
        raise KeyboardInterrupt


def run_comparisons(bench: Bench, comparisons: list[Comparison], outcome: Outcome) -> None:
    """Run all; a scenario that cannot be measured is left out from then on, the others go on.

    Raises KeyboardInterrupt after an interruption; the outcome has what was measured before.
    """
    for comparison in comparisons:
        rounds = 1 if bench.quick else comparison.rounds
        for number in range(1, rounds + 1):
            for scenario in comparison.scenarios:
                if scenario.name not in outcome.failures:
                    print(f"{comparison.name} {number}/{rounds}  {scenario.name:16}", end="", flush=True)
                    print(_run(bench, scenario, outcome), flush=True)
                if outcome.interrupted:
                    raise KeyboardInterrupt


def _run(bench: Bench, scenario: Scenario, outcome: Outcome) -> str:
    async def measure() -> Figures:
        async with asyncio.timeout(_BOUND_S):
            return await scenario.measure(bench)

    started = time.monotonic()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(measure())
    except TimeoutError:
        outcome.failures[scenario.name] = f"not done within {_BOUND_S} s"
    except NotMeasured as exc:
        outcome.failures[scenario.name] = str(exc)
    except Exception as exc:  # the other scenarios go on
        outcome.failures[scenario.name] = f"{type(exc).__name__}: {exc}"
    else:
        outcome.rounds.setdefault(scenario.name, []).append(figures)
        return f"{describe_figures(figures)}  ({time.monotonic() - started:.0f} s in all)"
    return f"not measured: {outcome.failures[scenario.name]}"


def describe_figures(figures: Figures) -> str:
    """`mails_per_s 1,234  cpu_us 210`."""
    return "  ".join(f"{name} {format_value(value)}" for name, value in figures.items())


def format_value(value: float) -> str:
    """`1,234`, `12.3`."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
