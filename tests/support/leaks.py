"""Words that a running stack is told in confidence, and its logs searched for them."""

import asyncio
import base64
import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import httpx

from tests.support.events import publish_raw
from tests.support.stack import Stack

_WRONG_KEY = "mk_" + "Quagga0" * 6 + "Q"
_ATTACHED = base64.b64encode(b"a numbat was here, and nobody is to know").decode()
# Of what the first mail of every stack says.
_FIRST_MAIL = ("you@example.com", "Hello from Milena", "all the way")


def speak_in_confidence(stack: dict[str, Any]) -> set[str]:
    """Have mails sent, refused, suppressed and misread; gives every word of them that is nobody's business.

    `stack` is stack.json. Returns once the mails have their ends, and the callback was tried.
    """
    headers = {"Authorization": f"Bearer {stack['api_key']}"}
    with httpx.Client(base_url=stack["base_url"], headers=headers, timeout=30) as client:
        _refuse(client)
        client.put("/v1/templates/leaks", json={"subject": "Capybara {{ v }}", "text": "{{ v }} and a wombat"})
        client.post("/v1/templates/leaks/preview", json={"variables": {"v": {"axolotl": "{{"}}})
        client.post("/v1/suppressions", json={"address": "kinkajou@example.org"}).raise_for_status()
        sent = [client.post("/v1/emails", json=each) for each in _list_mails(stack["from_address"])]
        ids = [answer.raise_for_status().json()["id"] for answer in sent]
        asyncio.run(publish_raw(Stack(stack["kafka"], "", stack["database_url"]), *_list_events(stack["from_address"])))
        _wait(client, [f"/v1/emails/{each}" for each in ids], lambda mail: mail["complete"])
        _wait(
            client,
            [f"/v1/webhooks/deliveries?email_id={ids[0]}"],
            lambda found: any(each["attempts"] for each in found["data"]),
        )
    secrets = {stack["api_key"], stack["webhook_secret"], _WRONG_KEY, _ATTACHED}
    return {*secrets, *_FIRST_MAIL, *_WORDS}


_WORDS = (
    *("zebedee", "kinkajou", "tapir", "dugong", "bilby", "quoll"),  # addresses
    *("Quokka", "Capybara", "Potoroo"),  # subjects
    *("narwhal", "wombat", "numbat", "okapi", "bettong"),  # bodies
    *("axolotl", "pangolin", "ocelot", "manatee"),  # variables, metadata, a callback's token, a header
)


def find_leaks(data_dir: Path, words: Collection[str]) -> list[str]:
    """Every line in a log of the stack that has one of the words, with the log's name."""
    found = []
    logs = [each for folder in (".", "kafka", "postgres") for each in (data_dir / folder).glob("*.log*")]
    for path in logs:
        if path.is_file():
            lines = path.read_text(errors="replace").splitlines()
            found += [f"{path.name}: {line}" for line in lines if any(word in line for word in words)]
    assert {"stack.log", "kafka.log", "postgres.log"} <= {path.name for path in logs}, logs
    return found


def _list_mails(sender: str) -> list[dict[str, Any]]:
    whole = {
        "from": sender,
        "to": ["Zebedee <zebedee@example.org>"],
        "subject": "Quokka {{ v }}",
        "text": "a narwhal",
        "variables": {"v": "axolotl"},
        "metadata": {"m": "pangolin"},
        "headers": {"X-Animal": "manatee"},
        "attachments": [{"filename": "numbat.txt", "content": _ATTACHED}],
        "callback": "http://127.0.0.1:1/hook?token=ocelot",
    }
    suppressed = {"from": sender, "to": ["kinkajou@example.org"], "subject": "Quokka", "text": "a narwhal"}
    stored = {"from": sender, "to": ["zebedee@example.org"], "template": {"name": "leaks"}, "variables": {"v": "x"}}
    return [whole, suppressed, stored]


def _list_events(sender: str) -> list[bytes]:
    """What no HTTP API would let through: no JSON, no address, no variable."""
    mail = {"from": sender, "to": "quoll@example.org", "subject": "Potoroo"}
    return [
        b'{"text": "an okapi',
        json.dumps({**mail, "to": "bilby@@", "text": "an okapi"}).encode(),
        json.dumps({**mail, "text": "{{ v.absent }}", "variables": {"v": {"bettong": 1}}}).encode(),
    ]


def _refuse(client: httpx.Client) -> None:
    mail = {"from": "dugong@evil.test", "to": ["tapir@example.org"], "subject": "Quokka", "text": "a narwhal"}
    for body in (mail, {**mail, "to": "tapir@@"}, {**mail, "variables": {"v": "axolotl"}, "text": "{{ w }}"}):
        assert client.post("/v1/emails", json=body).status_code in (403, 422)
    assert client.post("/v1/emails", content=b'{"text": "an okapi').status_code == 400
    assert client.post("/email/", json={**mail, "token": _WRONG_KEY}).status_code == 401
    assert client.get("/v1/emails/zebedee", headers={"Authorization": f"Bearer {_WRONG_KEY}"}).status_code in (401, 422)


def _wait(client: httpx.Client, paths: Collection[str], has_ended: Any) -> None:
    deadline = time.monotonic() + 30
    for path in paths:
        while True:
            answer = client.get(path)
            if answer.status_code == 200 and has_ended(answer.json()):
                break
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.1)
