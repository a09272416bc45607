"""The targets, and whether figures meet them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Literal

from tests.bench.figures import Figures

Verdict = Literal["met", "missed", "not measured"]


@dataclass(frozen=True)
class Target:
    """A figure of a scenario, alone or as a ratio to the same figure of a yardstick, and its bound."""

    label: str
    scenario: str
    figure: str
    bound: float
    over: str | None = None
    at_least: bool = True


@dataclass(frozen=True)
class Row:
    """One target judged. `measured` and `yardstick` are medians; `value` is what is held against the bound."""

    target: Target
    measured: float | None
    yardstick: float | None
    value: float | None
    verdict: Verdict


TARGETS = (
    Target("drain, 1 sender ÷ Celery", "drain-1", "mails_per_s", 10, over="celery"),
    Target("drain, 2 senders ÷ Celery", "drain-2", "mails_per_s", 15, over="celery"),
    Target("drain, 2 senders ÷ post_office", "drain-2", "mails_per_s", 3.5, over="post-office"),
    Target("bulk events, 1 sender ÷ Celery", "bulk-1", "mails_per_s", 25, over="celery"),
    Target("CPU of a single mail, µs", "drain-1", "cpu_us", 200, at_least=False),
    Target("CPU of a bulk mail, µs", "bulk-1", "cpu_us", 80, at_least=False),
    Target("accept ÷ bare FastAPI + aiokafka", "accept", "requests_per_s", 0.8, over="bare-http"),
    Target("batch ÷ bare producer loop", "batch", "mails_per_s", 0.5, over="bare-producer"),
    Target("end to end ÷ Celery's enqueue to sent", "whole-stack", "mails_per_s", 5, over="celery-enqueued"),
    Target("batch of own contents ÷ the same published", "upload", "drained_per_s", 1 / 1.3, over="direct"),
    Target("mailing ÷ the same mails published", "mailing", "mails_per_s", 1 / 1.3, over="direct-bulk"),
    Target("mailing ÷ Celery's enqueue to sent", "mailing", "mails_per_s", 12, over="celery-queued"),
    Target("batch of one content ÷ Celery's enqueue to sent", "upload-shared", "mails_per_s", 12, over="celery-queue"),
    Target("request to relay at 100/s, p99 ms", "latency", "p99_ms", 150, at_least=False),
    Target("request to relay while bulk leaves, p99 ms", "overtaking", "p99_ms", 1500, at_least=False),
    Target("request to relay while five mailings run, p99 ms", "overtaking-mailings", "p99_ms", 1500, at_least=False),
    Target("lag of 100,000 mails due in a minute, p99 ms", "delayed", "lag_p99_ms", 1000, at_least=False),
    Target("lists over 5 million mails, p99 ms", "listing", "p99_ms", 50, at_least=False),
    Target("memory while a million contacts come in, MB", "import-again", "peak_mb", 300, at_least=False),
    Target("memory with 200 kB mails queued, MB", "memory-large", "peak_mb", 400, at_least=False),
    Target("memory's growth over small mails, %", "memory-flat", "growth_percent", 5, at_least=False),
)

Rounds = Mapping[str, Sequence[Figures]]
"""By scenario, what each round has yielded."""


def take_median(rounds: Rounds, scenario: str, figure: str) -> float | None:
    """Over the rounds; None where there was none."""
    found = [figures[figure] for figures in rounds.get(scenario, ()) if figure in figures]
    return median(found) if found else None


def judge(target: Target, rounds: Rounds) -> Row:
    """Hold a target against the medians. A missing yardstick leaves a ratio unmeasured."""
    measured = take_median(rounds, target.scenario, target.figure)
    yardstick = take_median(rounds, target.over, target.figure) if target.over else None
    if measured is None or (target.over and not yardstick):
        return Row(target, measured, yardstick, None, "not measured")
    value = measured / yardstick if yardstick else measured
    met = value >= target.bound if target.at_least else value <= target.bound
    return Row(target, measured, yardstick, value, "met" if met else "missed")


def take_percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent do not exceed (nearest rank). Raises ValueError for none."""
    if not values:
        raise ValueError("there is no percentile of nothing")
    return sorted(values)[max(0, ceil(len(values) * percent / 100) - 1)]


def compute_growth(samples: Sequence[float]) -> float:
    """By how many percent: the median of the last three samples against that of the three after the first.

    The first sample is the warm-up's. Raises ValueError for fewer than seven.
    """
    if len(samples) < 7:
        raise ValueError("too few samples to tell growth from warming up")
    return (median(samples[-3:]) / median(samples[1:4]) - 1) * 100
