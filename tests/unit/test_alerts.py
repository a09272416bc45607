"""The page for operators has every metric, and the alert rules name only what there is."""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from deploy.local.settings import REPOSITORY
from shared.metrics_page import PAGE, list_metrics, render_page

RULES = REPOSITORY / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = REPOSITORY / "deploy" / "grafana" / "milena.json"
# Prometheus' own, and its client's
FOREIGN = {"up", "process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total"}
_RULE = re.compile(r"^      - alert: (\w+)\n(.*?)(?=^      - alert: |^  - name: |\Z)", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"\b(milena_[a-z_]+|up|process_[a-z_]+)\b")
_WORDS = re.compile(r"[^\w\- ]")


def list_rules() -> dict[str, str]:
    """By the alert's name all that is written of it."""
    return dict(_RULE.findall(RULES.read_text()))


def list_anchors() -> set[str]:
    """The headings of the page, as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", PAGE.read_text(), re.MULTILINE)
    return {_WORDS.sub("", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_page_has_every_metric_with_its_meaning() -> None:
    page = PAGE.read_text()
    assert page == render_page(page), "make docs writes it"
    assert all(f"`{name}`" in page for name in list_metrics())


def test_only_the_table_of_the_page_is_written_anew() -> None:
    changed = render_page(PAGE.read_text()).replace("| labels |", "| label |")
    assert render_page(changed) == PAGE.read_text()


def test_the_rules_name_only_metrics_and_labels_that_exist() -> None:
    known = list_metrics()
    samples = {f"{name}{suffix}": name for name in known for suffix in ("", "_bucket", "_sum", "_count")}
    rules = list_rules()
    assert len(rules) >= 15
    for alert, text in rules.items():
        expression = text[text.index("expr:") : text.index("labels:")]
        names = set(_NAME.findall(expression))
        assert names, alert
        assert names <= samples.keys() | FOREIGN, alert
        wanted = set(re.findall(r"[{,]\s*(\w+)=~?\"", expression)) - {"job"}
        by = {label for found in re.findall(r"by \(([^)]*)\)", expression) for label in found.split(", ")} - {"le"}
        labels = {label for name in names - FOREIGN for label in known[samples[name]]._labelnames}
        assert wanted | by <= labels, alert


def test_every_rule_says_how_grave_it_is_and_where_to_read_on() -> None:
    anchors = list_anchors()
    for alert, text in list_rules().items():
        assert re.search(r"severity: (critical|warning|info)", text), alert
        assert "summary: " in text, alert
        runbook = re.search(r"runbook: docs/operations\.md#(\S+)", text)
        assert runbook, alert
        assert runbook[1] in anchors, alert


def test_the_page_explains_every_alert() -> None:
    page = PAGE.read_text()
    assert [alert for alert in list_rules() if f"`{alert}`" not in page] == []


def list_panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in panels if panel["type"] != "row"]


def test_the_dashboard_shows_only_metrics_and_labels_that_exist_and_says_what_they_mean() -> None:
    known = list_metrics()
    samples = {f"{name}{suffix}": name for name in known for suffix in ("", "_bucket", "_sum", "_count")}
    assert len(list_panels()) >= 12
    for panel in list_panels():
        assert panel["description"], panel["title"]
        for target in panel["targets"]:
            names = set(_NAME.findall(target["expr"]))
            assert names and names <= samples.keys() | FOREIGN, target["expr"]
            by = {each for found in re.findall(r"by \(([^)]*)\)", target["expr"]) for each in found.split(", ")} - {
                "le"
            }
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"])) - {"instance"}
            labels = {label for name in names - FOREIGN for label in known[samples[name]]._labelnames}
            assert by | shown <= labels, target


def test_no_panel_of_the_dashboard_lies_over_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool")
def test_prometheus_can_read_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
