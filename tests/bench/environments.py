"""Virtual environments of the yardsticks: each has its own, made from a lock file with hashes, once."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from deploy.local.settings import read_cache_settings
from tests.bench.figures import NotMeasured

YARDSTICKS = Path(__file__).parent / "yardsticks"
_INSTALL_S = 600


def prepare_environment(name: str) -> Path:
    """Give the environment's Python, after making it where it is missing or its lock has changed.

    Raises NotMeasured where it cannot be made.
    """
    folder = read_cache_settings().directory / "bench" / name
    lock, stamp, python = YARDSTICKS / f"{name}.lock", folder / ".installed", folder / "bin" / "python"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"making the environment of {name} (once)", flush=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"]
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), *install, str(lock)])
        stamp.write_text(wanted)
    return python


def read_versions(name: str) -> dict[str, str]:
    """What the lock file names, for the report."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", (YARDSTICKS / f"{name}.lock").read_text(), re.MULTILINE))


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S)
    except subprocess.CalledProcessError as exc:
        raise NotMeasured(f"its environment cannot be made: {exc.stderr.strip()[-300:]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise NotMeasured(f"its environment was not made within {_INSTALL_S} s") from exc
