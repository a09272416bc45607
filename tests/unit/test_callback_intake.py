"""Which records the callback service keeps a delivery of, looking at their bytes before it parses them."""

import orjson
import pytest

from services.callback.deliveries import Delivery
from services.callback.intake import Intake
from shared.batching import Record
from shared.metrics import EVENTS_SKIPPED

DATA = {
    "id": "018f3a5e-7c00-7000-8000-000000000001",
    "attempt": 1,
    "recipients": ["b@y.org"],
    "message_id": "<m@x>",
    "relay": "r",
    "response": "250 ok",
    "sent_at": "2026-05-01T11:59:59Z",
    "outstanding": 0,
    "complete": True,
    "outcomes": [{"address": "b@y.org", "state": "sent", "attempt": 1}],
}
WANTED = orjson.dumps({**DATA, "callback": "https://wms.server/callback"})


class Store:
    """Keeps what is planned."""

    def __init__(self) -> None:
        self.kept: list[Delivery] = []

    async def add(self, planned: list[Delivery]) -> int:
        self.kept += planned
        return len(planned)


async def take_in(value: bytes, ce_type: bytes | None = b"email.sent") -> list[Delivery]:
    store = Store()
    headers = (("ce_type", ce_type),) if ce_type else ()
    record = Record("t.email.sent", 0, 1, 1_700_000_000_123, value, headers)
    await Intake(store, on_new=lambda: None, event_limit=1_000_000).handle([record])  # type: ignore[arg-type]
    return store.kept


def count_skipped(why: str) -> float:
    return float(EVENTS_SKIPPED.labels(why=why)._value.get())


@pytest.mark.parametrize("value", [WANTED, b" " + WANTED + b"\n", WANTED.replace(b'"callback"', b'"c\\u0061llback"')])
async def test_a_callback_is_found_however_it_is_written(value: bytes) -> None:
    [kept] = await take_in(value)
    assert kept.url == "https://wms.server/callback"


async def test_a_result_without_one_asks_for_nothing_and_is_no_fault() -> None:
    before = count_skipped("type"), count_skipped("unreadable")
    assert await take_in(orjson.dumps(DATA)) == []
    assert (count_skipped("type"), count_skipped("unreadable")) == before


@pytest.mark.parametrize(
    ("value", "ce_type", "why"),
    [
        (orjson.dumps(DATA), b"email.opened", "type"),
        (b"", b"email.sent", "unreadable"),
        (b"[1]", b"email.sent", "unreadable"),
        (b'{"id": ', b"email.sent", "unreadable"),
    ],
)
async def test_what_is_of_no_known_type_or_no_object_is_counted(value: bytes, ce_type: bytes, why: str) -> None:
    before = count_skipped(why)
    assert await take_in(value, ce_type) == []
    assert count_skipped(why) == before + 1
