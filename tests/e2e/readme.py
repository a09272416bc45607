"""README.md and docs/client.md, typed command by command against a running stack."""

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

from deploy.local.kafka.java import find_java
from deploy.local.settings import REPOSITORY, read_cache_settings
from tests.support.documents import Reader, own_python, read_blocks

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_README_ID = "01a1fe49-374f-768a-a0aa-8ab695bb7521"


def sit_down(stack: dict[str, Any], data_dir: Path, folder: Path) -> Reader:
    """A reader of the docs beside this stack."""
    folder.mkdir(exist_ok=True)
    python_path = os.pathsep.join([str(REPOSITORY / "shared" / "client"), str(REPOSITORY)])
    reader = Reader(folder, own_python(), {"MILENA_DATA_DIR": str(data_dir), "PYTHONPATH": python_path})
    reader.replaced = {
        "http://127.0.0.1:8000": stack["base_url"],
        "127.0.0.1:19092": stack["kafka"],
        "mk_…": stack["api_key"],
        "no-reply@example.com": stack["from_address"],
    }
    reader.add_command("milena", f'exec "{reader.python}" -m milena "$@"')
    jars = read_cache_settings().directory / "kafka-*/libs-*/*"
    java = find_java(read_cache_settings().java_home)
    tool = "org.apache.kafka.tools.ConsoleProducer"
    start = f'exec "{java}" -XX:TieredStopAtLevel=1 -cp "$(echo {jars.parent})/*"'
    reader.add_command("kafka-console-producer", f'{start} {tool} "$@"')
    return reader


def take_the_tour(reader: Reader) -> None:
    """README.md's API tour; asserts that each step ends as the page says."""
    (_, post), (_, look) = read_blocks("README.md", "Send a mail")
    answer = reader.run("sh", post)
    assert "202 Accepted" in answer
    found = _ID.search(answer.partition("\n\n")[2])
    assert found, answer
    reader.replaced[_README_ID] = found[0]
    deadline = time.monotonic() + 30  # right after its 202 a mail may not be known yet, and is looked for again
    while '"status":"' not in (shown := reader.run("sh", f"{post.splitlines()[0]}\n{look}")):
        assert time.monotonic() < deadline, shown
    assert '"type":"email.requested"' in shown

    make_a_task(reader)
    write_to_many(reader)
    _, (_, send), (_, command) = read_blocks("README.md", "From Python, from Django")
    assert reader.run("python", send) == "sent\n"
    assert "  sent\n" in reader.run("sh", command)

    publish, echo = read_blocks("README.md", "Or publish it yourself")
    consume, listen = read_blocks("README.md", "Read the results")
    with reader.start("sh", f"{post.splitlines()[0]}\n{listen[1].replace('curl -N', 'curl -sN')}") as listening:
        assert listening.stdout is not None
        try:
            assert "retry: " in listening.stdout.readline()
            reader.run(*publish)
            reader.run(*echo)
            assert any('"order":42' in line.replace(" ", "") for line in listening.stdout)
        finally:
            os.killpg(listening.pid, signal.SIGKILL)
    _read_until(reader, consume, "{'order': 42}")


def make_a_task(reader: Reader) -> None:
    """README.md's task: made, run by hand, its mail sent."""
    (_, create), (_, run) = read_blocks("README.md", "Have it sent at its time")
    task = json.loads(reader.run("sh", create))
    assert (task["name"], task["schedule"]["timezone"]) == ("Morning report", "Europe/Berlin")
    assert len(task["upcoming"]) == 5
    asked, listing = run.replace("/v1/tasks/1/", f"/v1/tasks/{task['id']}/").splitlines()
    key = create.splitlines()[0]
    run_id = json.loads(reader.run("sh", f"{key}\n{asked}"))["run_id"]
    deadline = time.monotonic() + 30
    while (shown := json.loads(reader.run("sh", f"{key}\n{listing}"))["data"][0])["status"] != "SUCCEEDED":
        assert time.monotonic() < deadline, shown
        time.sleep(0.2)
    assert (shown["id"], shown["by_hand"], shown["attempts"]) == (run_id, True, 1)
    look = f"curl -s -H 'Authorization: Bearer mk_…' http://127.0.0.1:8000/v1/emails/{shown['result']['email_id']}"
    while '"status":"sent"' not in (mail := reader.run("sh", look)):
        assert time.monotonic() < deadline, mail
        time.sleep(0.2)


def write_to_many(reader: Reader) -> None:
    """README.md's mailing: contacts imported, a draft made, looked at and started, its recipients told."""
    (_, create), (_, run) = read_blocks("README.md", "Write to many")
    key, _, rest = create.partition("\n")
    file, end, mailing = rest.partition("\nEND\n")
    imported = json.loads(reader.run("sh", f"{key}\n{file}{end}"))
    assert (imported["state"], imported["rows"], imported["invalid"]) == ("finished", 2, 0)
    draft = json.loads(reader.run("sh", f"{key}\n{mailing}"))
    assert draft["state"] == "draft", draft
    _, check, start, listing = run.splitlines()
    line = f"{key}\nID={draft['id']}\n"
    assert json.loads(reader.run("sh", line + check))["ready"]
    assert json.loads(reader.run("sh", line + start))["id"] == draft["id"]
    deadline = time.monotonic() + 30
    wanted = [("ann@example.org", "success"), ("bob@example.net", "success")]
    while (shown := _list_states(reader.run("sh", line + listing))) != wanted:
        assert time.monotonic() < deadline, shown
        time.sleep(0.2)


def _list_states(answer: str) -> list[tuple[str, str]]:
    return sorted((each["address"], each["state"]) for each in json.loads(answer)["data"])


def read_the_clients_page(reader: Reader) -> None:
    """docs/client.md."""
    for language, block in read_blocks("docs/client.md")[1:]:  # the first installs it
        reader.run(language, block)


def _read_until(reader: Reader, block: tuple[str, str], wanted: str) -> None:
    """A consumer reads for ever; it is stopped when it has printed what was sent before."""
    language, text = block
    with reader.start(language, f"import sys; sys.stdout.reconfigure(line_buffering=True)\n{text}") as process:
        assert process.stdout is not None
        try:
            assert any(wanted in line for line in process.stdout)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
