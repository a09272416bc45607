"""docs/from-celery.md's example, typed command by command, with a real Django, against a running stack."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx

from deploy.local.ports import find_free_port
from deploy.local.settings import REPOSITORY
from tests.support.django_environments import prepare_django
from tests.support.documents import Reader, read_blocks


def follow_the_example(stack: dict[str, Any], data_dir: Path, folder: Path) -> None:
    """Asserts that each step ends as the page says."""
    folder.mkdir(exist_ok=True)
    django = prepare_django("5.2")
    python_path = os.pathsep.join([str(django.packages), str(REPOSITORY / "shared" / "client")])
    port = find_free_port()
    address = f"http://127.0.0.1:{port}"
    database = str(folder / "shop.sqlite3")
    env = {"PYTHONPATH": python_path, "SHOP_DATABASE": database, "SHOP_URL": address, "MILENA_DATA_DIR": str(data_dir)}
    reader = Reader(folder, Path(django.python), env)
    reader.add_command("python", f'exec "{django.python}" -S "$@"')
    reader.replaced = {"../../../.milena": str(data_dir), "http://127.0.0.1:8100": address, "8100": str(port)}
    (_, prepare), (_, remind), (_, serve), (_, order), (_, look) = read_blocks("docs/from-celery.md", "The example")
    lines = [line for line in prepare.splitlines() if not line.startswith("pip install")]
    assert "System check identified no issues" in reader.run("sh", "\n".join(lines))
    reader.directory = REPOSITORY / "docs/examples/from-celery"
    assert reader.run("sh", remind).endswith(" sent\n")
    thanked = count_thanks(stack)
    server = reader.start("sh", f"{serve}wait")
    try:
        answers = [json.loads(each) for each in reader.run("sh", order).replace("}{", "}\n{").splitlines()]
        assert answers == [{"order": 1}, {"error": "the card is declined"}]
        deadline = time.monotonic() + 30
        while (seen := json.loads(reader.run("sh", look)))["mail_status"] != "sent":
            assert time.monotonic() < deadline, seen
            time.sleep(0.1)
        status = httpx.get(
            f"{stack['base_url']}/v1/emails/{seen['mail_id']}",
            headers={"Authorization": f"Bearer {stack['api_key']}"},
        ).json()
        assert (status["status"], status["tags"], status["metadata"]) == ("sent", ["order"], {"order": 1})
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()
    assert count_thanks(stack) == thanked + 1, "an order that was rolled back confirms nothing"


def count_thanks(stack: dict[str, Any]) -> int:
    """Confirmations that have arrived."""
    return sum(b"Your order" in path.read_bytes() for path in Path(stack["mail_dir"]).iterdir())
