"""The table of all metrics in docs/operations.md, from shared/metrics.py. `python -m shared.metrics_page` writes it."""

import re
import sys
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from shared import metrics

PAGE = Path(__file__).parents[1] / "docs" / "operations.md"
BEGIN, END = "<!-- metrics: begin -->", "<!-- metrics: end -->"


def list_metrics() -> dict[str, MetricWrapperBase]:
    """Every metric there is, by the name under which it is read; a histogram's without its suffixes."""
    found = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    return {f"{each._name}{'_total' if each._type == 'counter' else ''}": each for each in found}


def render_table() -> str:
    """The Markdown between the two comments."""
    lines = ["| metric | labels | what it tells |", "|---|---|---|"]
    for name, metric in list_metrics().items():
        labels = ", ".join(metric._labelnames)
        lines.append(f"| `{name}` ({metric._type}) | {labels} | {metric._documentation.replace('|', '&#124;')} |")
    return "\n".join(lines)


def render_page(page: str) -> str:
    """The page with the table as it should be."""
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{render_table()}\n{END}", page, flags=re.DOTALL)


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` only say whether it is outdated. Returns the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m shared.metrics_page [--check]", file=sys.stderr)
        return 2
    page = PAGE.read_text()
    wanted = render_page(page)
    if page == wanted:
        return 0
    if arguments:
        print("outdated: docs/operations.md (make docs)")
        return 1
    PAGE.write_text(wanted)
    print("written: docs/operations.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
