"""Kafka's jars, fetched once by Maven into the cache directory."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from deploy.local.kafka.unavailable import INSTEAD, KafkaUnavailable
from deploy.local.settings import read_environment

POM = Path(__file__).parent / "pom.xml"

Say = Callable[[str], None]


def read_kafka_version(pom: Path = POM) -> str:
    """Give the version of Kafka that the pom names."""
    found = ElementTree.parse(pom).findtext(".//{*}kafka.version")  # noqa: S314 - our own file
    if found is None:
        raise KafkaUnavailable(f"{pom} names no kafka.version")
    return found


def prepare_jars(cache_dir: Path, java: Path, say: Say) -> Path:
    """Give the directory of Kafka's jars, fetching them through Maven (run by ``java``) the first time.

    Raises KafkaUnavailable when there is neither a copy in ``cache_dir`` nor a Maven that could fetch one.
    """
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:8]
    libs = cache_dir / f"kafka-{read_kafka_version()}" / f"libs-{digest}"
    if libs.is_dir():
        return libs
    maven = shutil.which("mvn") or _install_maven(say)
    say(f"fetching Apache Kafka {read_kafka_version()} through Maven into {libs.parent} (once)")
    libs.parent.mkdir(parents=True, exist_ok=True)
    # Fetched beside its place and moved there whole: an interrupted fetch leaves no half of a class path.
    with tempfile.TemporaryDirectory(dir=libs.parent) as scratch:
        fetched = Path(scratch) / "libs"
        _fetch(maven, java, fetched)
        try:
            fetched.rename(libs)
        except OSError:
            if not libs.is_dir():  # another process was faster: its copy is as good
                raise
    return libs


def _fetch(maven: str, java: Path, into: Path) -> None:
    environment = read_environment()
    if shutil.which("java") is None:  # Maven looks nowhere else, and knows nothing of Python wheels
        environment.setdefault("JAVA_HOME", str(java.parent.parent))
    command = [maven, "-B", "-q", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={into}"]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0 or not into.is_dir():
        raise KafkaUnavailable(f"Maven could not fetch Kafka's jars ({INSTEAD}):\n{done.stdout.strip()[-2000:]}")


def _install_maven(say: Say) -> str:
    apt = shutil.which("apt-get")
    if os.geteuid() != 0 or apt is None:
        raise KafkaUnavailable(f"Kafka's jars come through Maven: install it (package `maven`), {INSTEAD}.")
    say("Maven is not installed: installing it now (apt-get install maven)")
    environment = {**read_environment(), "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "maven"]):
        done = subprocess.run(
            [apt, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaUnavailable(f"apt-get could not install Maven; install it, {INSTEAD}:\n{done.stdout[-1000:]}")
    return maven
