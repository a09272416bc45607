"""Environments with a Django of their own, from lock files with hashes, made once and kept in the cache."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.settings import REPOSITORY, read_cache_settings, read_environment

FOLDER = REPOSITORY / "tests" / "in_django"
_OLDEST_PYTHON, _NEWEST_NEEDS = (3, 11), (3, 12)
_INSTALL_S = 600


@dataclass(frozen=True)
class DjangoEnvironment:
    """A Python, and a folder with what the lock file names; nothing else can be imported but the client."""

    python: str
    packages: Path

    def run(self, *arguments: str, timeout_s: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments, at the root of the repository."""
        inherited = {name: value for name, value in read_environment().items() if not name.startswith("MILENA_")}
        path = ":".join(str(each) for each in (self.packages, REPOSITORY / "shared" / "client", FOLDER))
        own = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(
            [self.python, "-S", *arguments],
            env={**inherited, **own, **env},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def prepare_django(name: str) -> DjangoEnvironment:
    """The environment of `django_<name>.lock`. Skips the test where the Python that it needs cannot be had."""
    cache = read_cache_settings().directory / "django"
    python, version = _find_python(_NEWEST_NEEDS if name == "newest" else _OLDEST_PYTHON)
    lock, packages = FOLDER / f"django_{name}.lock", cache / f"{name}-{version}"
    stamp = packages / ".installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(packages, ignore_errors=True)
        _install(lock, packages, version)
        stamp.write_text(wanted)
    return DjangoEnvironment(python, packages)


def _install(lock: Path, packages: Path, version: str) -> None:
    """All wheels are pure Python, so that they can be fetched for another Python than this one."""
    where = ["--require-hashes", "--no-deps", "--target", str(packages), "--requirement", str(lock)]
    uv = ["uv", "pip", "install", "--quiet", "--link-mode", "copy", "--python-version", version, *where]
    pip = [
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
        "--ignore-requires-python",
        *where,
    ]
    # uv takes a second, pip ten; but only pip knows of an index other than PyPI.
    for command in (uv, pip):
        done = subprocess.run(
            [sys.executable, "-m", *command], capture_output=True, text=True, timeout=_INSTALL_S, check=False
        )
        if done.returncode == 0:
            return
        shutil.rmtree(packages, ignore_errors=True)
    raise RuntimeError(f"{lock} could not be installed:\n{done.stderr}")


def _find_python(needed: tuple[int, int]) -> tuple[str, str]:
    """A Python's path and its version. Skips the test where there is none."""
    if sys.version_info >= needed:
        return sys.executable, f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in (f"{needed[0]}.{minor}" for minor in range(14, needed[1] - 1, -1)):
        for candidate in _list_candidates(f"python{version}"):
            tried = subprocess.run(
                [candidate, "-c", "import sqlite3, ssl"], capture_output=True, timeout=60, check=False
            )
            if tried.returncode == 0:
                return candidate, version
    pytest.skip(f"this Django needs Python {needed[0]}.{needed[1]} or newer on the PATH, or in pyenv")


def _list_candidates(name: str) -> list[str]:
    pyenv = Path(read_environment().get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = shutil.which(name)
    return [*([found] if found else []), *(str(each) for each in pyenv.glob(f"versions/*/bin/{name}"))]
