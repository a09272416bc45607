"""What the figures were measured on, and with which versions."""

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import asyncpg
import psutil

from deploy.local.settings import REPOSITORY
from tests.bench.environments import read_versions
from tests.bench.figures import NotMeasured
from tests.bench.packages import REDIS, SMTP_SINK, WRK, Program, find_program

_OURS = (
    *("faust-streaming", "aiokafka", "uvloop", "fastapi", "starlette", "uvicorn", "httptools", "h11", "pydantic"),
    *("orjson", "asyncpg", "sqlalchemy", "aiosmtplib", "minijinja"),
)
_THEIRS = {"celery": ("celery", "redis", "django"), "post_office": ("django-post-office", "django", "psycopg")}


def describe_machine() -> dict[str, str]:
    """Processor, cores, memory, kernel."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return {
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "cores": f"{psutil.cpu_count()} for everything",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "busy before": f"load average {psutil.getloadavg()[0]:.1f}",
    }


def describe_versions(postgres: str) -> dict[str, str]:
    """Of the product's parts and the yardsticks'."""
    ours = {"python": platform.python_version(), "kafka": _read_kafka_version(), "postgresql": postgres}
    ours["milena"] = _read_commit()
    for name in _OURS:
        try:
            ours[name] = version(name)
        except PackageNotFoundError:
            continue
    for program in (SMTP_SINK, REDIS, WRK):
        ours[program.name] = _read_program_version(program)
    for environment, names in _THEIRS.items():
        locked = read_versions(environment)
        ours |= {f"{environment}'s {name}": locked[name] for name in names}
    return ours


async def read_postgres_version(database_url: str) -> str:
    """As the server says."""
    connection = await asyncpg.connect(database_url)
    try:
        found = connection.get_server_version()
        return f"{found.major}.{found.minor}"
    finally:
        await connection.close()


def _read_program_version(program: Program) -> str:
    try:
        return find_program(program).version
    except NotMeasured:
        return "not to be had"


def _read_kafka_version() -> str:
    pom = REPOSITORY / "deploy" / "local" / "kafka" / "pom.xml"
    found = re.search(r"<kafka.version>([^<]+)<", pom.read_text())
    return found[1] if found else "unknown"


def _read_commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"
