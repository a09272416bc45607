"""One trace id, from the request through Kafka to the relay and the callback."""

import asyncio

import httpx

from tests.support.collector import run_collector
from tests.support.gateway import FULL, mint
from tests.support.services import ServiceRunner
from tests.support.smtp import run_smtp
from tests.support.stack import Stack

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
WAY = [  # each follows from the one before it
    ("milena-gateway-api", "POST /v1/emails"),
    ("milena-gateway-api", "publish email.requested"),
    ("milena-sender-0", "receive email.requested"),
    ("milena-sender-0", "publish email.sent"),
    ("milena-callback-worker", "receive email.sent"),
    ("milena-callback-worker", "POST callback"),
]
SENDING = ("milena-sender-0", "smtp send")


async def test_the_spans_of_a_mail_are_one_trace_through_all_services(stack: Stack) -> None:
    caller = await mint(stack.database_url)
    async with run_collector() as collector, run_smtp() as relay:
        runner = ServiceRunner(
            {**stack.env(), "MILENA_TRACES_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}, preloaded=True
        )
        try:
            api = runner.start("services.gateway", "api")
            sender = runner.start("services.sender", "worker", env={"MILENA_SMTP_PORT": str(relay.port)})
            callback = runner.start("services.callback", "worker")
            await asyncio.gather(*(each.wait_ready(60) for each in (api, sender, callback)))
            headers = {**caller.headers, "traceparent": f"00-{TRACE}-{CALLER}-01"}
            async with httpx.AsyncClient(base_url=api.url) as client:
                mail = {**FULL, "callback": f"{collector.url}/callback"}
                assert (await client.post("/v1/emails", json=mail, headers=headers)).status_code == 202
            spans = await collector.wait_for(TRACE, lambda found: len(found) >= len(WAY) + 1)
        finally:
            await asyncio.to_thread(runner.stop_all)
    by_name = {(each.service, each.name): each for each in spans}
    assert by_name.keys() == {*WAY, SENDING}
    parent = CALLER
    for step in WAY:
        assert by_name[step].parent == parent, step
        parent = by_name[step].id
    assert by_name[SENDING].parent == by_name["milena-sender-0", "receive email.requested"].id
    assert not any(each.failed for each in spans)
    assert collector.callbacks[0].headers["traceparent"].split("-")[1:3] == [TRACE, parent]
    told = "".join(each.attributes for each in spans)
    assert "ann@example.org" not in told
    assert caller.secret not in told
