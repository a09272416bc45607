"""What the ingest answers while Kafka or PostgreSQL is away, and to keys that are valid no more."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from services.gateway.accepting import Acceptor
from services.gateway.smtp.submission import Submission
from shared.access import ApiKey, ApiScope, KeyLookup, mint_key
from shared.composing.attachments import AttachmentRules
from shared.producing import Message
from shared.publisher import EventTooLarge, OutcomeUnknown, PublishError, PublisherUnavailable
from shared.quotas import Quotas
from shared.retrying import Unavailable
from shared.settings import QuotaSettings

SECRET = mint_key()
RATES = QuotaSettings(mail_rate=1, rate_window_s=3)
RULES = AttachmentRules(count=1)
SENDER = "no-reply@example.com"
MESSAGE = b"From: no-reply@example.com\r\nTo: ann@example.org\r\nMessage-ID: <a@example.com>\r\n\r\nHello\r\n"


class Source:
    """Keys, as PostgreSQL has them."""

    def __init__(self) -> None:
        self.away = self.revoked = self.limited = False
        self.scopes = frozenset({str(ApiScope.EMAILS_SEND)})

    async def find_key(self, _digest: bytes) -> ApiKey | None:
        if self.away:
            raise Unavailable
        if self.revoked:
            return None
        key = ApiKey("key-1", "default", "t", "mk_", self.scopes, ("*@example.com",), datetime.now(UTC))
        return replace(key, networks=(ip_network("10.0.0.0/8"),)) if self.limited else key


class Topic:
    """Takes what is published, or raises."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.messages: list[Message] = []

    async def publish(self, message: Message) -> None:
        self.messages.append(message)
        if self.failure:
            raise self.failure

    async def publish_each(self, messages: Sequence[Message]) -> list[PublishError | None]:
        raise AssertionError("mails come one by one")


class Conversation:
    """The hooks, called as the server calls them."""

    def __init__(self) -> None:
        self.source, self.topic, self.now = Source(), Topic(), 0.0
        keys = KeyLookup(self.source, clock=lambda: self.now)
        self.submission = Submission(keys, Acceptor(self.topic, "email.requested", 10_000), Quotas(RATES), RULES)
        self.server: Any = SimpleNamespace(secret=SECRET, caller=ip_address("192.0.2.1"))

    def start(self, mail_from: str | None = SENDER, *, smtp_utf8: bool = False) -> Any:
        return SimpleNamespace(mail_from=mail_from, rcpt_tos=[], mail_options=[], smtp_utf8=smtp_utf8)

    async def mail(self, address: str = SENDER) -> str:
        return await self.submission.handle_MAIL(self.server, None, self.start(None), address, [])

    async def data(self, content: bytes = MESSAGE, *recipients: str) -> str:
        envelope = self.start()
        envelope.rcpt_tos, envelope.original_content = list(recipients or ("ann@example.org",)), content
        return await self.submission.handle_DATA(self.server, None, envelope)

    @property
    def ids(self) -> list[str]:
        return [json.loads(message.value)["id"] for message in self.topic.messages]


@pytest.fixture
def talk() -> Conversation:
    return Conversation()


@pytest.mark.parametrize(
    ("failure", "begins"),
    [
        (PublisherUnavailable("away"), "451 4.3.0 Kafka is away"),
        (OutcomeUnknown("silence"), "451 4.3.0 Kafka has not confirmed in time; it may still be sent as "),
        (EventTooLarge("topic"), "552 5.3.4 The mail is larger"),
    ],
)
async def test_without_an_acknowledgement_there_is_no_250(talk: Conversation, failure: Exception, begins: str) -> None:
    talk.topic.failure = failure
    assert (await talk.data()).startswith(begins)
    talk.topic.failure = None
    assert await talk.data() == f"250 2.0.0 queued as {talk.ids[0]}"
    assert talk.ids[0] == talk.ids[1]  # whoever tries again does not double


@pytest.mark.parametrize(
    "change",
    [
        lambda talk: talk.data(MESSAGE.replace(b"Hello", b"Other")),
        lambda talk: talk.data(MESSAGE.replace(b"<a@", b"<b@")),
        lambda talk: talk.data(MESSAGE, "bob@example.org"),
        lambda talk: talk.data(MESSAGE, "ann@example.org", "bob@example.org"),
    ],
)
async def test_another_mail_has_another_id(talk: Conversation, change: Callable[[Conversation], Any]) -> None:
    await talk.data()
    await change(talk)
    assert len(set(talk.ids)) == 2


async def test_without_a_message_id_every_mail_is_a_new_one(talk: Conversation) -> None:
    for _ in range(2):
        await talk.data(MESSAGE.replace(b"Message-ID: <a@example.com>\r\n", b""))
    assert len(set(talk.ids)) == 2
    talk.topic.failure = OutcomeUnknown("silence")
    assert "be sent twice" in await talk.data(MESSAGE.replace(b"Message-ID: <a@example.com>\r\n", b""))


async def test_trace_headers_do_not_make_another_mail(talk: Conversation) -> None:
    await talk.data(b"Received: by queue; 1\r\nDate: today\r\n" + MESSAGE)
    await talk.data(b"Received: by queue; 2\r\n" + MESSAGE)
    assert len(set(talk.ids)) == 1


async def test_what_is_too_large_as_an_event_is_told_both_sizes(talk: Conversation) -> None:
    assert (await talk.data(MESSAGE + b"x" * 10_000)).startswith("552 5.3.4 A mail may have at most 10000 bytes as an")


async def test_a_key_that_cannot_be_checked_is_454_and_one_known_goes_on(talk: Conversation) -> None:
    talk.source.away = True
    assert str(await talk.submission.check_secret(SECRET, None)).startswith("454 4.7.0 The API key cannot be checked")
    talk.source.away = False
    assert await talk.mail() == "250 2.1.0 OK"
    talk.source.away, talk.now = True, 60.0
    assert await talk.mail() == "250 2.1.0 OK"


async def test_a_revoked_key_ends_within_a_connection(talk: Conversation) -> None:
    assert await talk.mail() == "250 2.1.0 OK"
    talk.source.revoked, talk.now = True, 5.0
    assert (await talk.mail()).startswith("535 5.7.8 ")
    assert (await talk.data()).startswith("535 5.7.8 ")
    assert talk.topic.messages == []


async def test_a_key_without_the_scope_is_told_which(talk: Conversation) -> None:
    talk.source.scopes = frozenset({"emails:read"})
    assert await talk.mail() == "535 5.7.8 The API key lacks the scope emails:send"


@pytest.mark.parametrize(
    ("address", "smtp_utf8", "begins"),
    [
        ("ann@example.org", False, "250"),
        ("ann@bücher.example", False, "250"),  # travels in ASCII
        ("jörg@example.org", False, "553 5.6.7"),
        ("jörg@example.org", True, "250"),
        ("ann", False, "553 5.1.3"),
        ("a\udcff@example.org", True, "553 5.1.3"),
    ],
)
async def test_a_recipient_is_an_address(talk: Conversation, address: str, smtp_utf8: bool, begins: str) -> None:
    envelope = talk.start(smtp_utf8=smtp_utf8)
    assert (await talk.submission.handle_RCPT(None, None, envelope, address, [])).startswith(begins)
    assert len(envelope.rcpt_tos) == (begins == "250")


async def test_a_bug_is_told_without_what_the_client_has_said(talk: Conversation) -> None:
    assert await talk.submission.handle_exception(RuntimeError("ann@example.org")) == (
        "451 4.3.0 This is our fault; it has been logged"
    )


async def test_a_key_of_another_network_is_no_password(talk: Conversation) -> None:
    talk.source.limited = True
    assert (await talk.mail()).startswith("535 5.7.8 This API key is limited to certain networks")
    talk.server.caller = ip_address("10.1.2.3")
    assert (await talk.mail()).startswith("250")


async def test_a_key_has_no_more_mails_than_its_rate(talk: Conversation) -> None:
    said = [await talk.data(MESSAGE.replace(b"a@", b"%d@" % number)) for number in range(5)]
    assert [each[:3] for each in said] == ["250"] * 3 + ["451"] * 2
    assert said[-1].startswith("451 4.7.1 The API key may have 1 mails a second; try in 1 s")
    assert len(talk.topic.messages) == 3


async def test_attachments_are_refused_by_the_rules_of_http(talk: Conversation) -> None:
    part = b"--x\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\na\r\n"
    head, body = MESSAGE.split(b"\r\n\r\n")
    content = (
        head + b"\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n" + body + part * 2 + b"--x--\r\n"
    )
    assert (await talk.data(content)).startswith("554 5.6.0 ")
    assert talk.topic.messages == []
