"""What the API refuses, and how it says so. Nothing refused may reach Kafka."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from shared.access import ApiScope
from tests.support.gateway import FULL, SIMPLE, Caller, mint, read_requests, revoke, serve_gateway
from tests.support.servers import RealServers, run_apart
from tests.support.services import ServiceProcess
from tests.support.stack import Stack


@dataclass(frozen=True)
class Api:
    """One API process for this module, and callers known to it."""

    stack: Stack
    process: ServiceProcess
    caller: Caller
    reader: Caller
    single: Caller


@pytest.fixture(scope="module")
def api(real_servers: RealServers) -> Iterator[Api]:
    with serve_gateway(real_servers, "api") as (stack, (process,)):
        caller = run_apart(mint(stack.database_url, "*@example.com"))
        reader = run_apart(mint(stack.database_url, "*@example.com", scopes=[ApiScope.EMAILS_READ]))
        single = run_apart(mint(stack.database_url, "only@example.com"))
        yield Api(stack, process, caller, reader, single)
        assert run_apart(read_requests(stack)) == [], "a refused mail lies in Kafka"


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=api.process.url, timeout=30) as client:
        yield client


def check_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The answer is a problem document of this status; gives it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


def pointers(answer: httpx.Response) -> list[str]:
    errors = check_problem(answer, 422)["errors"]
    assert all(error["detail"] for error in errors)
    return sorted(error["pointer"] for error in errors)


class TestAuthentication:
    @pytest.mark.parametrize("token", ["wrong", "mk_" + "x" * 43, "", None, 7, "mk_\u00e4"])
    async def test_a_wrong_token_in_the_simple_form_is_401(self, client: httpx.AsyncClient, token: object) -> None:
        answer = await client.post("/email/", json={**SIMPLE, "token": token})
        check_problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic eDp5", "Bearer mk_" + "x" * 43])
    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "/v1/emails"), ("GET", "/v1/emails/01900000-0000-7000-8000-000000000000")]
    )
    async def test_a_wrong_bearer_key_is_401(
        self, client: httpx.AsyncClient, header: str, method: str, path: str
    ) -> None:
        answer = await client.request(method, path, json=FULL, headers={"Authorization": header})
        check_problem(answer, 401)

    async def test_a_key_without_the_scope_is_403(self, api: Api, client: httpx.AsyncClient) -> None:
        for path, body in (("/v1/emails", FULL), ("/email/", {**SIMPLE, "token": api.reader.secret})):
            answer = await client.post(path, json=body, headers=api.reader.headers)
            assert check_problem(answer, 403)["scope"] == "emails:send"

    async def test_a_revoked_key_is_401_within_five_seconds(self, api: Api, client: httpx.AsyncClient) -> None:
        caller = await mint(api.stack.database_url)
        path = "/v1/emails/01900000-0000-7000-8000-000000000000"
        check_problem(await client.get(path, headers=caller.headers), 404)
        await revoke(api.stack.database_url, caller)
        revoked_at = time.monotonic()
        while (await client.get(path, headers=caller.headers)).status_code != 401:
            assert time.monotonic() - revoked_at < 5
            await asyncio.sleep(0.1)

    async def test_no_answer_repeats_the_key(self, api: Api, client: httpx.AsyncClient) -> None:
        answer = await client.post("/email/", json={"token": api.caller.secret, "to": api.caller.secret})
        assert api.caller.secret not in answer.text


class TestSenders:
    @pytest.mark.parametrize(
        "sender", ["a@example.org", "Example <a@evil.test>", "a@sub.example.com", "x@example.com.evil.test"]
    )
    async def test_a_sender_that_is_not_allowed_is_403(self, api: Api, client: httpx.AsyncClient, sender: str) -> None:
        simple = await client.post("/email/", json={**SIMPLE, "from": sender, "token": api.caller.secret})
        full = await client.post("/v1/emails", json={**FULL, "from": sender}, headers=api.caller.headers)
        for answer in (simple, full):
            assert check_problem(answer, 403)["errors"][0]["pointer"] == "/from"

    async def test_the_display_name_does_not_make_a_sender_allowed(self, api: Api, client: httpx.AsyncClient) -> None:
        body = {**FULL, "from": {"name": "only@example.com", "address": "other@example.com"}}
        check_problem(await client.post("/v1/emails", json=body, headers=api.single.headers), 403)

    async def test_the_envelope_sender_needs_the_same_permission(self, api: Api, client: httpx.AsyncClient) -> None:
        body = {**FULL, "envelope_from": "bounce@evil.test"}
        answer = await client.post("/v1/emails", json=body, headers=api.caller.headers)
        assert check_problem(answer, 403)["errors"][0]["pointer"] == "/envelope_from"

    async def test_from_is_needed_where_the_key_has_no_single_sender(self, api: Api, client: httpx.AsyncClient) -> None:
        body = {name: value for name, value in FULL.items() if name != "from"}
        assert pointers(await client.post("/v1/emails", json=body, headers=api.caller.headers)) == ["/from"]


MISSING = object()
SIMPLE_FAULTS = [
    ("from", MISSING, "/from"),
    ("from", "nobody", "/from"),
    ("from", "a@example.com, b@example.com", "/from"),
    ("from", "A\r\nBcc: x@evil.test <no-reply@example.com>", "/from"),
    ("to", MISSING, "/to"),
    ("to", "", "/to"),
    ("to", [], "/to"),
    ("to", None, "/to"),
    ("to", "not an address", "/to"),
    ("to", ["a@example.org", "nope"], "/to/1"),
    ("to", "a@example.org\r\nBcc: b@evil.test", "/to"),
    ("to", ["Ann\n <a@example.org>"], "/to/0"),
    ("to", [f"a{n}@example.org" for n in range(1001)], "/to"),
    ("subject", MISSING, "/subject"),
    ("subject", None, "/subject"),
    ("subject", "a\r\nBcc: b@evil.test", "/subject"),
    ("subject", "a\nb", "/subject"),
    ("html_content", MISSING, "/html_content"),
    ("html_content", "", "/html_content"),
    ("html_content", 7, "/html_content"),
    ("text_content", 7, "/text_content"),
    ("callback", "not a url", "/callback"),
    ("callback", "ftp://example.org/", "/callback"),
    ("callback", "http://", "/callback"),
    ("callback", "https://user:pass@example.org/", "/callback"),
    ("callback", {"url": "https://example.org"}, "/callback"),
    ("colour", "blue", "/colour"),
    ("id", "01900000-0000-7000-8000-000000000000", "/id"),
]
FULL_FAULTS = [
    ("from", "nobody", "/from"),
    ("from", {"address": "a@example.com", "nam": "x"}, "/from"),
    ("from_", "a@example.com", "/from_"),
    ("to", [], "/to"),
    ("to", MISSING, "/to"),
    ("to", ["a@example.org", {"address": "nope"}], "/to/1"),
    ("cc", ["nope"], "/cc/0"),
    ("bcc", "a@example.org\nX: y", "/bcc"),
    ("reply_to", ["nope"], "/reply_to/0"),
    ("envelope_from", "nope", "/envelope_from"),
    ("subject", MISSING, "/subject"),
    ("subject", "a\rb", "/subject"),
    ("html", 7, "/html"),
    ("headers", {"X-A": "b\r\nBcc: c@evil.test"}, "/headers/X-A"),
    ("headers", {"Bcc": "c@evil.test"}, "/headers/Bcc"),
    ("headers", {"content-type": "text/plain"}, "/headers/content-type"),
    ("headers", {"DKIM-Signature": "x"}, "/headers/DKIM-Signature"),
    ("headers", {"X A": "b"}, "/headers/X A"),
    ("attachments", [{"filename": "a\nb", "content": ""}], "/attachments/0/filename"),
    ("attachments", [{"filename": "a", "content": "%%%"}], "/attachments/0/content"),
    ("attachments", [{"filename": "a", "content": "", "content_type": "x"}], "/attachments/0/content_type"),
    ("attachments", [{"filename": "a", "content": "", "size": 1}], "/attachments/0/size"),
    ("callback", "javascript:alert(1)", "/callback"),
    ("callback", {"url": "https://example.org", "on": ["opened"]}, "/callback/on/0"),
    ("callback", {"url": "https://example.org"}, "/callback/on"),
    ("callback", {"url": "https://example.org", "on": ["sent"], "token": "x"}, "/callback/token"),
    ("send_at", "2030-01-01T09:00:00", "/send_at"),
    ("send_at", "tomorrow", "/send_at"),
    ("expires_at", "2020-01-01T09:00:00Z", "/expires_at"),
    ("expires_at", "9999-01-01T09:00:00Z", "/expires_at"),
    ("priority", "high", "/priority"),
    ("on_unknown", "shrug", "/on_unknown"),
    ("metadata", {"x": "y" * 9000}, "/metadata"),
    ("tags", [f"t{n}" for n in range(21)], "/tags"),
    ("tags", ["two words"], "/tags/0"),
    ("variables", [1], "/variables"),
    ("token", "x", "/token"),
    *[
        (name, value, f"/{name}")
        for name, value in {
            "id": "01900000-0000-7000-8000-000000000000",
            "account": "other",
            "api_key_id": "x",
            "requested_at": "2026-01-01T00:00:00Z",
            "test": True,
            "retry_of": "01900000-0000-7000-8000-000000000000",
            "mailing_id": "m",
            "batch_id": "b",
        }.items()
    ],
]


class TestFields:
    @pytest.mark.parametrize(("name", "value", "pointer"), SIMPLE_FAULTS)
    async def test_a_fault_in_the_simple_form_is_pointed_at(
        self, api: Api, client: httpx.AsyncClient, name: str, value: object, pointer: str
    ) -> None:
        body = {**SIMPLE, "token": api.caller.secret, name: value}
        body = {name: value for name, value in body.items() if value is not MISSING}
        found = pointers(await client.post("/email/", json=body))
        assert any(each == pointer or each.startswith(f"{pointer}/") for each in found), found

    @pytest.mark.parametrize(("name", "value", "pointer"), FULL_FAULTS)
    async def test_a_fault_in_the_full_form_is_pointed_at(
        self, api: Api, client: httpx.AsyncClient, name: str, value: object, pointer: str
    ) -> None:
        body = {name: value for name, value in {**FULL, name: value}.items() if value is not MISSING}
        found = pointers(await client.post("/v1/emails", json=body, headers=api.caller.headers))
        assert any(each == pointer or each.startswith(f"{pointer}/") for each in found), found

    async def test_every_faulty_field_is_named_at_once(self, api: Api, client: httpx.AsyncClient) -> None:
        body = {"token": api.caller.secret, "from": "x", "to": "", "subject": "a\nb", "callback": "nope"}
        assert pointers(await client.post("/email/", json=body)) == [
            "/callback",
            "/from",
            "/html_content",
            "/subject",
            "/to",
        ]

    async def test_one_of_html_and_text_is_needed(self, api: Api, client: httpx.AsyncClient) -> None:
        body = {name: FULL[name] for name in ("from", "to", "subject")}
        assert pointers(await client.post("/v1/emails", json=body, headers=api.caller.headers)) == ["/html"]

    async def test_expiry_is_bounded_from_send_at(self, api: Api, client: httpx.AsyncClient) -> None:
        body = {**FULL, "send_at": "2030-01-01T00:00:00Z", "expires_at": "2030-01-08T00:00:01Z"}
        assert pointers(await client.post("/v1/emails", json=body, headers=api.caller.headers)) == ["/expires_at"]


class TestTemplates:
    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"html": "Hi {{ name }}"}, "/variables/name"),
            ({"subject": "Hi {{ user.name }}", "variables": {"user": {}}}, "/variables/user/name"),
            ({"text": "{% for x in xs %}{{ x.y }}{% endfor %}", "variables": {"xs": [{}]}}, "/text"),
            ({"html": "{{ broken"}, "/html"),
            ({"subject": "{{ x }}", "variables": {"x": "a\r\nBcc: b@evil.test"}}, "/subject"),
            ({"html": "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}"}, "/html"),
        ],
    )
    async def test_a_template_that_cannot_render_is_pointed_at(
        self, api: Api, client: httpx.AsyncClient, fields: dict[str, Any], pointer: str
    ) -> None:
        body = {**FULL, "variables": {}, **fields}
        assert pointers(await client.post("/v1/emails", json=body, headers=api.caller.headers)) == [pointer]


class TestBodies:
    @pytest.mark.parametrize("content", [b"", b"{", b'{"from": "a"', b"from=a", b'{"a": "\xff"}', b"nul"])
    @pytest.mark.parametrize("path", ["/email/", "/email", "/v1/emails"])
    async def test_malformed_json_is_400(self, api: Api, client: httpx.AsyncClient, path: str, content: bytes) -> None:
        headers = {**api.caller.headers, "content-type": "application/json"}
        check_problem(await client.post(path, content=content, headers=headers), 400)

    @pytest.mark.parametrize("content", [b"[]", b"7", b'"x"', b"null"])
    async def test_json_that_is_no_object_is_422(self, api: Api, client: httpx.AsyncClient, content: bytes) -> None:
        answer = await client.post("/v1/emails", content=content, headers=api.caller.headers)
        assert pointers(answer) == [""]

    async def test_a_broken_multipart_form_is_400(self, api: Api, client: httpx.AsyncClient) -> None:
        headers = {**api.caller.headers, "content-type": "multipart/form-data; boundary=x"}
        check_problem(await client.post("/email/", content=b"--y\r\nnothing", headers=headers), 400)

    async def test_a_file_in_a_form_is_refused(self, api: Api, client: httpx.AsyncClient) -> None:
        files = {"html_content": ("a.html", b"<p>x</p>", "text/html")}
        answer = await client.post("/email/", data={"subject": "x"}, files=files, headers=api.caller.headers)
        assert answer.status_code in {400, 422}

    async def test_faults_in_a_form_are_pointed_at(self, api: Api, client: httpx.AsyncClient) -> None:
        body = {"from": "no-reply@example.com", "to": "", "subject": "x", "token": api.caller.secret}
        assert pointers(await client.post("/email/", data=body)) == ["/html_content", "/to"]

    async def test_a_field_given_twice_is_pointed_at(self, api: Api, client: httpx.AsyncClient) -> None:
        headers = {**api.caller.headers, "content-type": "application/x-www-form-urlencoded"}
        assert pointers(await client.post("/email/", content=b"subject=a&subject=b", headers=headers)) == ["/subject"]

    async def test_a_mail_over_the_event_limit_is_413_with_the_limit(self, api: Api, client: httpx.AsyncClient) -> None:
        body = {**FULL, "html": "x" * 1024 * 1024}
        document = check_problem(await client.post("/v1/emails", json=body, headers=api.caller.headers), 413)
        assert document["limit"] == 1024 * 1024
        assert "1048576" in document["detail"]

    async def test_a_declared_length_over_the_limit_is_refused_unread(
        self, api: Api, client: httpx.AsyncClient
    ) -> None:
        answer = await client.post("/v1/emails", content=b"x" * (3 * 1024 * 1024 + 1), headers=api.caller.headers)
        assert "1048576" in check_problem(answer, 413)["detail"]

    async def test_a_chunked_body_over_the_limit_is_refused_before_its_end(self, api: Api) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.process.port)
        head = f"POST /v1/emails HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.caller.secret}\r\n"
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        for _ in range(60):  # 3.75 MiB, and no end
            writer.write(chunk)
            await writer.drain()
        status = await asyncio.wait_for(reader.readline(), 10)
        assert b" 413 " in status
        writer.close()


class TestLookups:
    async def test_an_id_that_is_none_is_422(self, api: Api, client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/emails/42", headers=api.caller.headers)
        check_problem(answer, 422)

    async def test_an_unknown_id_is_404_after_two_seconds(self, api: Api, client: httpx.AsyncClient) -> None:
        began = time.monotonic()
        answer = await client.get("/v1/emails/f47ac10b-58cc-4372-a567-0e02b2c3d479", headers=api.caller.headers)
        check_problem(answer, 404)
        assert 1.9 < time.monotonic() - began < 4

    async def test_unknown_paths_and_methods_are_problems_too(self, client: httpx.AsyncClient) -> None:
        check_problem(await client.get("/v1/emails/x/y/z"), 404)
        check_problem(await client.delete("/v1/emails"), 405)

    async def test_a_slash_too_many_is_a_problem_and_no_redirect(self, client: httpx.AsyncClient) -> None:
        check_problem(await client.post("/v1/emails/", json=FULL), 404)

    @pytest.mark.parametrize("media", ["application/json", "multipart/form-data; boundary=b"])
    async def test_a_client_that_goes_away_is_no_fault_of_ours(
        self, api: Api, client: httpx.AsyncClient, media: str
    ) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", api.process.port)
        head = f"POST /email/ HTTP/1.1\r\nHost: x\r\nContent-Type: {media}\r\nContent-Length: 500\r\n\r\n"
        writer.write(head.encode() + b'{"from": ')
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.2)
        assert (await client.get("/healthz")).status_code == 200
        assert "Traceback" not in api.process.read_log()


class TestRequestIds:
    async def test_a_sane_request_id_is_kept_and_another_is_not(self, client: httpx.AsyncClient) -> None:
        kept = await client.post("/v1/emails", headers={"X-Request-ID": "abc-123"})
        assert check_problem(kept, 401)["request_id"] == "abc-123"
        replaced = await client.post("/v1/emails", headers={"X-Request-ID": 'x" onload="'})
        assert check_problem(replaced, 401)["request_id"] != 'x" onload="'


async def test_the_openapi_document_describes_the_routes(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    post = document["paths"]["/v1/emails"]["post"]
    assert post["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/NewEmail"}
    assert "application/problem+json" in post["responses"]["422"]["content"]
    text = json.dumps(document)
    for name in document["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, f"{name} is not used"
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in document["components"]["schemas"]
