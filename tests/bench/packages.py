"""Programs that the bench compares with or leans on: installed, or unpacked from Debian's packages into the cache."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.settings import read_cache_settings
from tests.bench.figures import NotMeasured

_DOWNLOAD_S = 120


@dataclass(frozen=True)
class Program:
    """`packages`: Debian's, those of libraries that a small installation lacks among them."""

    name: str
    path: str
    packages: tuple[str, ...]
    libraries: str = "usr/lib/*-linux-gnu"


SMTP_SINK = Program("smtp-sink", "usr/sbin/smtp-sink", ("postfix",), "usr/lib/postfix")
REDIS = Program(
    "redis-server", "usr/bin/redis-server", ("redis-server", "redis-tools", "liblzf1", "libjemalloc2", "libatomic1")
)
WRK = Program("wrk", "usr/bin/wrk", ("wrk", "libluajit-5.1-2"))


@dataclass(frozen=True)
class Found:
    """A program that can be run, and the environment it needs."""

    path: Path
    env: Mapping[str, str]
    version: str


def find_program(program: Program) -> Found:
    """Installed, unpacked before, or unpacked now. Raises NotMeasured where it cannot be had."""
    installed = shutil.which(program.name) or shutil.which(f"/{program.path}")
    if installed:
        return Found(Path(installed), dict(os.environ), _read_version(program, installed))
    folder = read_cache_settings().directory / program.packages[0]
    unpacked = folder / program.path
    if not unpacked.exists():
        _unpack(program, folder)
    libraries = ":".join(map(str, folder.glob(program.libraries)))
    versions = folder / "versions.txt"
    version = versions.read_text().strip() if versions.exists() else "unpacked"
    return Found(unpacked, {**os.environ, "LD_LIBRARY_PATH": libraries}, version)


def _unpack(program: Program, folder: Path) -> None:
    wanted = f"{program.name} is missing: install the package {program.packages[0]}"
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise NotMeasured(wanted)
    with tempfile.TemporaryDirectory() as temporary:
        command = ["apt-get", "download", *program.packages]
        try:
            subprocess.run(command, cwd=temporary, check=True, capture_output=True, timeout=_DOWNLOAD_S)
            files = sorted(Path(temporary).glob("*.deb"))
            for file in files:
                subprocess.run(["dpkg", "-x", str(file), str(folder)], check=True, capture_output=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
            shutil.rmtree(folder, ignore_errors=True)
            raise NotMeasured(f"{wanted} (apt-get download did not bring it)") from exc
        main = next(file.name for file in files if file.name.startswith(f"{program.packages[0]}_"))
        (folder / "versions.txt").write_text(main.split("_")[1].replace("%3a", ":") + "\n")


def _read_version(program: Program, path: str) -> str:
    if program is SMTP_SINK:  # it would listen
        return "installed"
    said = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"\d+\.\d+[.\d]*", said.stdout + said.stderr)
    return found[0] if found else "installed"
