"""The kill matrix as tables for docs/reliability.md: one for each way, moments down, faults across. Pure."""

from collections.abc import Mapping
from typing import Any

from tests.chaos.cells import MOMENTS, Cell, Fault, Way

MATRIX_KEYS = tuple(f"matrix_{fault}" for fault in Fault)


def render_matrix(latest: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Markdown lines from the latest verdict of each fault; none where the matrix has not run."""
    runs = [latest[key] for key in MATRIX_KEYS if key in latest]
    found = {(each["fault"], each["moment"], each["way"]): each for run in runs for each in run["cells"]}
    if not found:
        return []
    seconds = sum(run["seconds"] for run in runs)
    broken = sum(1 for each in found.values() if each["broken"])
    lines = [
        f"The kill matrix: {len(found)} cells in {seconds / 60:.0f} minutes, {broken} of them broken. Each cell: mails,"
        " doubles, mails once unknown, seconds from the first mail's acceptance to the last one's end.",
    ]
    for way in Way:
        titles = [way.label, *(fault.label for fault in Fault)]
        lines += ["", "| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
        for moment in MOMENTS:
            lines.append("| " + " | ".join([f"`{moment}`", *(_render(found, moment, way))]) + " |")
    return lines


def _render(found: Mapping[tuple[str, str, str], Mapping[str, Any]], moment: str, way: Way) -> list[str]:
    cells = []
    for fault in Fault:
        each = found.get((fault, moment, way))
        if Cell(fault, moment, way).impossible:
            cells.append("cannot occur")
        elif each is None:
            cells.append("not run")
        else:
            broken = " **broken**" if each["broken"] else ""
            cells.append(
                f"{each['mails']} · {each['doubles']} · {each['unknowns']} · {each['slowest_s']:.1f} s{broken}"
            )
    return cells
