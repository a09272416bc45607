"""What a run found, for people and for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from tests.bench.rounds import Outcome, format_value
from tests.bench.scenarios import Comparison
from tests.bench.targets import TARGETS, Row, judge

DETAIL = ("after_", "cpu_us_")
"""Figures that begin so are only in the JSON."""


def print_report(
    machine: Mapping[str, str], versions: Mapping[str, str], comparisons: Sequence[Comparison], outcome: Outcome
) -> None:
    """Hardware and versions, what every scenario yielded, the targets: Markdown, as docs/performance.md has it."""
    print("\nMachine: " + "; ".join(f"{name} {value}" for name, value in machine.items()))
    print("Versions: " + ", ".join(f"{name} {value}" for name, value in versions.items()))
    print("\n| scenario | what | median of the rounds |\n|---|---|---|")
    for comparison in comparisons:
        for scenario in comparison.scenarios:
            print(f"| {scenario.name} | {scenario.about} | {_describe(outcome, scenario.name)} |")
    print("\n| target | wanted | measured | yardstick | ratio | |\n|---|---|---|---|---|---|")
    for row in judge_all(comparisons, outcome):
        print(_describe_row(row, outcome))


def judge_all(comparisons: Sequence[Comparison], outcome: Outcome) -> list[Row]:
    """The targets of what was to be measured."""
    ran = {scenario.name for comparison in comparisons for scenario in comparison.scenarios}
    return [judge(target, outcome.rounds) for target in TARGETS if target.scenario in ran]


def write_json(
    path: Path,
    machine: Mapping[str, str],
    versions: Mapping[str, str],
    comparisons: Sequence[Comparison],
    outcome: Outcome,
    **about: object,
) -> None:
    """Everything, every round included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        **about,
        "machine": machine,
        "versions": versions,
        "rounds": outcome.rounds,
        "not_measured": outcome.failures,
        "targets": [asdict(row) for row in judge_all(comparisons, outcome)],
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    print(f"\nAll figures: {path}")


def _describe(outcome: Outcome, scenario: str) -> str:
    rounds, failure = outcome.rounds.get(scenario, []), outcome.failures.get(scenario)
    told = [
        f"{name} {_summarise([figures[name] for figures in rounds])}"
        for name in (rounds[0] if rounds else ())
        if not name.startswith(DETAIL)
    ]
    if failure:
        told.append(f"not measured: {_first_line(failure)}")
    return ", ".join(told) or "did not run"


def _summarise(values: Sequence[float]) -> str:
    """The median, and from where to where."""
    spread = f" ({format_value(min(values))}–{format_value(max(values))})" if len(values) > 1 else ""
    return format_value(median(values)) + spread


def _describe_row(row: Row, outcome: Outcome) -> str:
    target = row.target
    wanted = f"{'≥' if target.at_least else '≤'} {target.bound:g}"
    ratio = f"{row.value:.2f}" if target.over and row.value is not None else ""
    missing = next((name for name in (target.scenario, target.over) if name in outcome.failures), None)
    why = f": {_first_line(outcome.failures[missing])}" if row.verdict == "not measured" and missing else ""
    cells = (target.label, wanted, _format(row.measured), _format(row.yardstick), ratio, f"**{row.verdict}**{why}")
    return f"| {' | '.join(cells)} |"


def _format(value: float | None) -> str:
    return "" if value is None else format_value(value)


def _first_line(text: str) -> str:
    return text.partition("\n")[0].rstrip(" :;")
