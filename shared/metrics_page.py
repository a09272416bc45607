"""The table of all metrics in docs/operations.md, from shared/metrics.py. `python -m shared.metrics_page` writes it."""

import re
import sys

from prometheus_client.metrics import MetricWrapperBase

from shared import metrics
from shared.generated_pages import DOCS, keep_page

PAGE = DOCS / "operations.md"
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


if __name__ == "__main__":
    sys.exit(keep_page(PAGE, lambda: render_page(PAGE.read_text()), sys.argv[1:]))
