"""From a record on email.requested to a mail at the relay and a result on email.sent, on real parts."""

from uuid import uuid4

import pytest

from tests.support.events import publish_json, read_results

SIMPLE = {"from": "no-reply@example.com", "to": ["ann@example.org"], "subject": "Hello", "text": "Hi", "html": "<b>Hi</b>"}


@pytest.fixture
async def sender(services, stack, mail_catcher):
    process = services.start(
        "services.sender", "worker", env={**stack.env(), "MILENA_SMTP_PORT": str(mail_catcher.smtp_port)}
    )
    await process.wait_ready()
    return process


async def test_a_minimal_record_is_sent_and_its_result_told(sender, stack, mail_catcher):
    email_id = str(uuid4())
    await publish_json(stack, SIMPLE | {"id": email_id})
    results = await read_results(stack, count=1)
    assert results[0].data["id"] == email_id
    assert results[0].data["complete"] is True
    assert results[0].data["response"].startswith("250")
    assert len(mail_catcher.mailbox.numbers()) == 1
