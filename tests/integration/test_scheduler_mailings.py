"""Mailings over HTTP, on a real PostgreSQL: making, changing, trying out and checking them."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from shared.access import ApiScope
from tests.support.mailings import CONTENT, Account, World


async def test_a_mailing_is_kept_as_it_was_written(shop: Account) -> None:
    start = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    body = {
        "name": "Spring",
        "content": {**CONTENT, "reply_to": ["help@example.com"], "headers": {"X-Kind": "letter"}, "tags": ["spring"]},
        "audience": {"tags": {"any": ["a", "b"], "none": ["c"]}, "attributes": {"plan": ["pro", None], "city": None}},
        "start_at": start.isoformat(),
        "finish_at": (start + timedelta(days=2)).isoformat(),
        "hours": {"from": "22:00", "to": "06:30", "timezone": "Europe/Berlin"},
        "rate": 50,
        "unsubscribe": True,
    }
    made = await shop.ask("POST", "/v1/mailings", expect=201, json=body)
    read = await shop.ask("GET", f"/v1/mailings/{made['id']}", expect=200)
    assert read.pop("counts")["recipients"] == 0
    assert made == read
    told = {name: made[name] for name in body}
    told["start_at"], told["finish_at"] = (
        datetime.fromisoformat(told[name]).isoformat() for name in ("start_at", "finish_at")
    )
    assert told == body
    assert (made["state"], made["recipients"]) == ("draft", 0)


async def test_mailings_are_listed_newest_first_page_by_page_and_by_state(shop: Account, world: World) -> None:
    made = [(await shop.create(name=f"m{number}"))["id"] for number in range(3)]
    await shop.set({"id": made[1]}, "state = 'running'")
    await (await world.open()).create()
    first = await shop.ask("GET", "/v1/mailings?limit=2", expect=200)
    assert [each["id"] for each in first["data"]] == made[:0:-1]
    assert "content" not in first["data"][0]
    second = await shop.ask("GET", "/v1/mailings", expect=200, params={"limit": 2, "after": first["next"]})
    assert ([each["id"] for each in second["data"]], second.get("next")) == (made[:1], None)
    running = await shop.ask("GET", "/v1/mailings?state=running", expect=200)
    assert [each["id"] for each in running["data"]] == [made[1]]
    await shop.ask("GET", "/v1/mailings", expect=422, params={"state": "draft", "after": first["next"]})


async def test_what_is_left_out_of_a_change_stays_and_null_takes_back(shop: Account) -> None:
    made = await shop.create(rate=5, audience={"tags": {"any": ["x"]}})
    path = f"/v1/mailings/{made['id']}"
    changed = await shop.ask("PATCH", path, expect=200, json={"rate": None, "content": {"html": "<p>Hi</p>"}})
    assert "rate" not in changed
    assert changed["content"] == {**CONTENT, "html": "<p>Hi</p>"}
    assert changed["audience"] == {"tags": {"any": ["x"]}}
    changed = await shop.ask("PATCH", path, expect=200, json={"content": {"text": None}, "audience": {}})
    assert "text" not in changed["content"]
    assert changed["audience"] == {}
    assert await shop.refuse("PATCH", path, {"content": {"html": None}}) == ["/content/html"]
    assert await shop.refuse("PATCH", path, {"content": {"html": "{{ x", "subjct": "y"}}) == ["/content/subjct"]
    assert await shop.refuse("PATCH", path, {"state": "running"}) == ["/state"]
    assert (await shop.ask("PATCH", path, expect=422))["errors"][0]["pointer"] == ""
    assert (await shop.ask("PATCH", path, expect=200, json={}))["content"] == changed["content"]


async def test_of_a_mailing_that_runs_name_rate_and_end_can_be_changed_and_it_is_not_deleted(shop: Account) -> None:
    made = await shop.create()
    path = f"/v1/mailings/{made['id']}"
    await shop.set(made, "state = 'running'")
    for method, options in (("PATCH", {"json": {"rate": 5, "content": {"text": "x"}, "hours": None}}), ("DELETE", {})):
        refused = await shop.ask(method, path, expect=409, **options)
        assert (refused["type"], refused["state"]) == ("/problems/mailing-state", "running")
    refused = await shop.ask("PATCH", path, expect=409, json={"content": {"text": "x"}, "hours": None})
    assert "content, hours cannot" in refused["detail"] and "Cancel it" in refused["detail"]
    past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    for pointer, fields in {"/finish_at": {"finish_at": past}, "/rate": {"rate": 0}, "/name": {"name": ""}}.items():
        assert await shop.refuse("PATCH", path, fields) == [pointer]
    assert await shop.refuse("PATCH", path, {"state": "paused"}) == ["/state"]
    for state in ("running", "paused"):
        await shop.set(made, f"state = '{state}'")
        changed = await shop.ask("PATCH", path, expect=200, json={"name": state, "rate": 5})
        assert (changed["name"], changed["rate"], changed["state"]) == (state, 5, state)
    await shop.set(made, "state = 'finished', finished_at = now()")
    assert (await shop.ask("PATCH", path, expect=409, json={"rate": 5}))["state"] == "finished"
    assert "schedule.tick" in (await shop.ask("DELETE", path, expect=409))["detail"]
    await shop.set(made, "told_at = now()")
    await shop.ask("DELETE", path, expect=204)
    await shop.ask("GET", path, expect=404)


async def test_other_accounts_other_scopes_and_test_keys_are_kept_away(shop: Account, world: World) -> None:
    made = await shop.create()
    path = f"/v1/mailings/{made['id']}"
    stranger, tester = await world.open(), await world.open(shop.name, test=True)
    reader = await world.open(shop.name, scopes=[ApiScope.EMAILS_READ])
    for method, what in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/preview"), ("POST", "/check")):
        options: Any = {"json": {}} if method in ("PATCH", "POST") else {}
        await stranger.ask(method, path + what, expect=404, **options)
        await reader.ask(method, path + what, expect=403, **options)
    assert (await tester.ask("PATCH", path, expect=403, json={}))["type"] == "/problems/test-key"
    assert (await tester.create())["test"] is True


async def test_an_audience_is_counted_by_tags_attributes_and_what_its_contacts_lack(shop: Account) -> None:
    await shop.add_contact("ann@example.org", "Ann", ("vip", "de"), plan="pro", city="Bonn")
    await shop.add_contact("bob@example.org", "Bob", ("de",), plan="free")
    await shop.add_contact("cyd@example.org", "Cyd", ("vip",))
    await shop.add_contact("dan@example.org", "Dan", (), plan=3)
    counted = {}
    for name, audience in {
        "everyone": {},
        "any": {"tags": {"any": ["vip", "de"]}},
        "all": {"tags": {"all": ["vip", "de"]}},
        "none": {"tags": {"none": ["vip"]}},
        "one": {"attributes": {"plan": "pro"}},
        "number": {"attributes": {"plan": 3}},
        "choice": {"attributes": {"plan": ["pro", "free"]}},
        "has none": {"attributes": {"plan": None}},
        "all of it": {"tags": {"any": ["de"]}, "attributes": {"plan": "free"}},
        "nobody": {"tags": {"any": ["x"]}},
    }.items():
        counted[name] = await shop.check(await shop.create(audience=audience))
    assert {name: each["recipients"] for name, each in counted.items()} == {
        "everyone": 4,
        "any": 3,
        "all": 1,
        "none": 2,
        "one": 1,
        "number": 1,
        "choice": 2,
        "has none": 1,
        "all of it": 1,
        "nobody": 0,
    }
    everyone = counted["everyone"]
    assert everyone["missing"] == [{"variable": "plan", "recipients": 1}]
    [fault] = everyone["template_errors"]
    assert (fault["field"], fault["recipients"], fault["example"]) == ("text", 1, "cyd@example.org")
    assert "plan" in fault["detail"]
    assert {each["code"] for each in everyone["warnings"]} == {"no-unsubscribe", "everyone", "missing-variables"}
    assert (everyone["ready"], everyone["tried"], everyone["mails"]) == (True, 4, 4)
    assert (counted["nobody"]["ready"], [each["pointer"] for each in counted["nobody"]["problems"]]) == (
        False,
        ["/audience"],
    )


async def test_a_check_says_what_has_come_in_the_way_since(shop: Account, world: World) -> None:
    await shop.add_contact("ann@example.org", plan="pro")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    made = await shop.create(start_at=tomorrow, rate=1)
    await shop.set(made, "start_at = now() - interval '1 h', finish_at = now() - interval '1 min'")
    other = await world.open(shop.name, senders=["*@example.net"])
    checked = await other.check(made)
    assert [each["pointer"] for each in checked["problems"]] == ["/start_at", "/finish_at", "/content/from"]
    assert checked["estimated_duration_s"] == 1.0
    await shop.ask("PATCH", f"/v1/mailings/{made['id']}", expect=200, json={"name": "What is over is kept"})


async def test_a_preview_is_what_a_recipient_would_read(shop: Account) -> None:
    await shop.add_contact("ann@example.org", "Ann", ("vip",), plan="pro", city="Bonn", address="x", name="y")
    made = await shop.create(audience={"tags": {"any": ["vip"]}})
    path = f"/v1/mailings/{made['id']}/preview"
    first = await shop.ask("POST", path, expect=200)
    assert (first["subject"], first["text"], first["html"]) == ("Hello Ann", "Your pro plan in Bonn.", None)
    assert first == await shop.ask("POST", path, expect=200, json={"address": "ANN@example.org"})
    sample = {"address": "eve@example.org", "name": "Eve", "variables": {"city": "Rome"}}
    failed = await shop.ask("POST", path, expect=200, json={"recipient": sample})
    assert (failed["subject"], failed["text"]) == ("Hello Eve", None)
    assert [each["pointer"] for each in failed["errors"]] == ["/content/text"]
    assert await shop.refuse("POST", path, {"address": "nobody@example.org"}) == ["/address"]
    empty = await shop.create(audience={"tags": {"any": ["x"]}})
    assert await shop.refuse("POST", f"/v1/mailings/{empty['id']}/preview", {}) == ["/recipient"]


async def test_a_test_is_due_at_once_marked_and_counts_nowhere(shop: Account) -> None:
    await shop.add_contact("ann@example.org", "Ann", plan="pro")
    made = await shop.create()
    path, to = f"/v1/mailings/{made['id']}/test", ["me@example.com", "you@example.com", "me@example.com"]
    headers = {"idempotency-key": "once"}
    answers = await asyncio.gather(
        *(shop.ask("POST", path, expect=202, json={"to": to}, headers=headers) for _ in range(2))
    )
    assert answers[0] == answers[1]
    assert [each["address"] for each in answers[0]["data"]] == to[:2]
    rows = await shop.database.fetch(
        "SELECT id, event, due_at <= now() AS due FROM scheduler.delayed WHERE account = $1", shop.name
    )
    assert {str(row["id"]) for row in rows} == {each["id"] for each in answers[0]["data"]}
    mails = [json.loads(row["event"]) for row in rows]
    assert all(row["due"] for row in rows)
    assert sorted(mail["to"] for mail in mails) == [["me@example.com"], ["you@example.com"]]
    assert {(mail["subject"], *mail["tags"]) for mail in mails} == {("[Test] Hello {{ name }}", "mailing-test")}
    assert all(mail["variables"]["name"] == "Ann" and "mailing_id" not in mail for mail in mails)
    sample = {"address": "eve@example.org"}
    assert await shop.refuse("POST", path, {"to": to, "recipient": sample}) == ["/content/text"]


async def test_bad_mailings_are_refused_with_a_pointer_to_each_mistake(shop: Account) -> None:
    now = datetime.now(UTC)
    past, later = (now - timedelta(minutes=1)).isoformat(), (now + timedelta(hours=1)).isoformat()
    good: dict[str, Any] = {"name": "n", "content": CONTENT, "audience": {}}

    async def refuse(**fields: Any) -> list[str]:
        return await shop.refuse("POST", "/v1/mailings", {**good, **fields})

    async def refuse_text(text: str) -> list[str]:
        return await refuse(content={**CONTENT, "text": text})

    assert await refuse(start_at=past, finish_at=past) == ["/start_at", "/finish_at"]
    assert await refuse(start_at=later, finish_at=later) == ["/finish_at"]
    assert await refuse(hours={"from": "09:00", "to": "09:00"}) == ["/hours/to"]
    assert await refuse(hours={"from": "9", "to": "24:00", "timezone": "Mars/Base"}) == [
        "/hours/from",
        "/hours/to",
        "/hours/timezone",
    ]
    for rate in (0, -1, 1.5, True, "5"):
        assert await refuse(rate=rate) == ["/rate"]
    for text in (
        "{{ name",
        "{{ name|nope }}",
        "{% for i in range(100000) %}{% endfor %}",
        "{% for i in range(9999) %}{% for j in range(9999) %}{{ plan }}{% endfor %}{% endfor %}",
        "{{ self }}",
        "{{ name + 1 }}",
    ):
        assert await refuse_text(text) == ["/content/text"], text
    assert await refuse(content={**CONTENT, "subject": "a\nb"}) == ["/content/subject"]
    assert await refuse(content={"from": "a@example.com", "subject": "s"}) == ["/content/html"]
    assert await refuse(content={**CONTENT, "headers": {"To": "x"}}) == ["/content/headers/To"]
    assert await refuse(audience={"list": str(uuid4())}) == ["/audience/list"]
    assert await refuse(audience={"list": str(uuid4()), "attributes": {"a": 1}}) == ["/audience/list"]
    assert await refuse(audience={"attributes": {"a": {"b": 1}}}) == ["/audience/attributes"]
    assert await refuse(audience={"tags": {"any": ["a\0b"]}}) == ["/audience/tags/any/0"]
    assert await refuse(audience={"tags": {"any": [], "all": [], "none": []}}) == ["/audience/tags/any"]
    assert await shop.refuse("POST", "/v1/mailings", {}) == ["/name", "/content", "/audience"]
    refused = await shop.ask(
        "POST", "/v1/mailings", expect=403, json={**good, "content": {**CONTENT, "from": "a@example.net"}}
    )
    assert [error["pointer"] for error in refused["errors"]] == ["/content/from"]
