"""Keeps every verdict, and writes the table of docs/reliability.md from the latest of each scenario.

`python -m tests.chaos.results` writes the table, once every scenario has a verdict on this machine.
"""

import json
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from deploy.local.settings import REPOSITORY
from tests.chaos.matrix_table import MATRIX_KEYS, render_matrix
from tests.chaos.verdict import Verdict

FOLDER = REPOSITORY / ".cache" / "chaos"
PAGE = REPOSITORY / "docs" / "reliability.md"
_FAULT_LENGTH = 160  # on the page; results.jsonl has it whole
BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
KEYS = (
    "killed",
    "terminated",
    "slow_relay",
    "sink",
    "postgres_restarted",
    "postgres_away",
    "postgres_frozen",
    "kafka_restarted",
    "relay_pause",
    "relay_pause_control",
    "relay_off",
    "relay_first_off",
    "relay_limited",
    "hanging",
    "transactions",
    "dying_publisher",
    "races",
    "storm",
    "neighbours",
    "tasks",
    "batch_followed",
    "bulk",
    "mailing",
    *MATRIX_KEYS,
)
_COLUMNS = ("mails", "sent", "lost", "doubles", "hidden_doubles", "unknown", "takeovers", "redeliveries", "deadlocks")
_TITLES = ("mails", "sent", "lost", "doubles", "not shown", "unknown", "takeovers", "redelivered", "deadlocks")


def keep(key: str, verdict: Verdict, logs: str) -> None:
    """Append the verdict to `results.jsonl`, and keep the processes' logs of the latest run beside it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{key}.log").write_text(logs)
    kept = {
        "key": key,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": read_commit(),
        "machine": describe_machine(),
        **verdict.as_dict(),
    }
    with (FOLDER / "results.jsonl").open("a") as file:
        file.write(json.dumps(kept) + "\n")


def read_latest() -> dict[str, dict[str, Any]]:
    """The latest verdict of each scenario, by its key."""
    file = FOLDER / "results.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return {each["key"]: each for each in map(json.loads, lines)}


def read_commit() -> str:
    """`1968bf1`, with `+dirty` where something is not committed; `unknown` outside a repository."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return f"{commit}+dirty" if _git("status", "--porcelain", "--", ":!docs/reliability.md") else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def describe_machine() -> str:
    """Cores, memory, CPU, and the versions of what ran."""
    model = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    kafka = re.search(r"<kafka.version>(.+)</kafka.version>", _read(REPOSITORY / "deploy/local/kafka/pom.xml"))
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{psutil.cpu_count()} cores ({model[1] if model else platform.processor()}), {memory:.0f} GiB, "
        f"{platform.system()}; Python {platform.python_version()}, Kafka {kafka[1] if kafka else '?'}, PostgreSQL 18"
    )


def render_table(latest: dict[str, dict[str, Any]]) -> str:
    """The Markdown between the two comments."""
    titles = ["what happened", *_TITLES, "seconds", "exit, s", "reconcile", "kept", "commit", "date"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    lines += [_render_row(latest[key]) for key in KEYS if key in latest]
    seconds = sum(latest[key]["seconds"] for key in KEYS if key in latest)
    lines += ["", f"All of it took {seconds / 60:.0f} minutes, starting of servers and `reconcile` left out."]
    lines += ["", *render_matrix(latest)]
    lines += ["", "What was seen besides:", ""]
    for key in KEYS:
        if key in latest:
            row = latest[key]
            faults = [f"**fault**: {each.splitlines()[0][:_FAULT_LENGTH]}" for each in row["faults"]]
            lines += [f"- {row['scenario']}: {each}" for each in [*row["notes"], *faults]]
    machines = sorted({each["machine"] for key, each in latest.items() if key in KEYS})
    return "\n".join([*lines, "", *(f"Machine: {each}." for each in machines)])


def _render_row(row: dict[str, Any]) -> str:
    exits = f"{max(row['exits_s']):.1f}" if row["exits_s"] else "-"
    cells = [row["scenario"], *(str(row[name]) for name in _COLUMNS), f"{row['seconds']:.0f}", exits, row["reconcile"]]
    return "| " + " | ".join([*cells, "no" if row["faults"] else "yes", row["commit"], row["at"][:10]]) + " |"


def write_page() -> None:
    """Put the table into docs/reliability.md; says why where it does not."""
    latest = read_latest()
    missing = [key for key in KEYS if key not in latest]
    print(render_table(latest))
    if missing:
        sys.exit(f"{PAGE.name} is left as it is: no verdict here yet of {', '.join(missing)} (make chaos runs all)")
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{render_table(latest)}\n{END}{rest.split(END)[1]}")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    write_page()
