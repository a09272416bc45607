"""Postfix's smtp-sink as the relay: it swallows mail faster than anything here sends it."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from deploy.local.ports import find_free_port

_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "postfix"


class NoSink(Exception):
    """smtp-sink is neither installed nor to be had."""


def find_sink() -> tuple[Path, dict[str, str]]:
    """smtp-sink and the environment it needs: installed, or unpacked from Debian's package into .cache."""
    installed = shutil.which("smtp-sink") or shutil.which("/usr/sbin/smtp-sink")
    if installed:
        return Path(installed), {}
    unpacked = _CACHE / "usr/sbin/smtp-sink"
    if not unpacked.exists():
        _unpack()
    return unpacked, {"LD_LIBRARY_PATH": str(_CACHE / "usr/lib/postfix")}


def _unpack() -> None:
    if not shutil.which("apt-get"):
        raise NoSink("smtp-sink is missing: install Postfix (package postfix)")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "postfix"], cwd=folder, check=True, capture_output=True)
        package = next(Path(folder).glob("postfix_*.deb"))
        subprocess.run(["dpkg", "-x", str(package), str(_CACHE)], check=True)


@contextlib.contextmanager
def run_sink() -> Iterator[int]:
    """A running sink; gives its port."""
    binary, env = find_sink()
    port = find_free_port()
    command = [str(binary), "-u", "nobody"] if os.geteuid() == 0 else [str(binary)]
    process = subprocess.Popen([*command, f"127.0.0.1:{port}", "1000"], env={**os.environ, **env})
    try:
        _wait_open(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait_open(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise NoSink("smtp-sink did not start")
