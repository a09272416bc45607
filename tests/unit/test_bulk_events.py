"""One content for many: how a bulk event is read, and the mails it stands for (R2)."""

from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from shared.addresses import Mailbox
from shared.events import (
    BulkRequested,
    Coordinates,
    EmailRequested,
    UnreadableEvent,
    derive_bulk_entry_id,
    derive_record_id,
    open_record,
    read_bulk,
    read_email,
)

RECORD = Coordinates("email.requested", 3, 41, 1_700_000_000_000)
BULK: dict[str, Any] = {
    "bulk_id": str(uuid4()),
    "from": "Shop <shop@x.org>",
    "subject": "Hello {{ name }}",
    "text": "Dear {{ name }}",
    "tags": ["spring"],
    "account": "shop",
    "callback": "https://x.org/hook",
    "mails": [
        {"to": "ann@y.org", "variables": {"name": "Ann"}},
        {"to": "bob@y.org", "name": "Bob", "variables": {"name": "Bob"}, "metadata": {"row": 2}, "id": str(uuid4())},
    ],
}


def read(**changes: Any) -> BulkRequested:
    """The event as a reader gets it."""
    value = orjson.dumps({name: each for name, each in {**BULK, **changes}.items() if each is not None})
    return read_bulk(open_record(value, None), "cluster", RECORD)


def test_every_entry_is_a_mail_of_its_own() -> None:
    ann, bob = read().list_mails()

    assert ann.id == derive_bulk_entry_id(UUID(BULK["bulk_id"]), 0)
    assert bob.id == UUID(BULK["mails"][1]["id"])
    assert (ann.to, bob.to) == ([Mailbox("ann@y.org")], [Mailbox("bob@y.org", "Bob")])
    assert (ann.variables, bob.variables) == ({"name": "Ann"}, {"name": "Bob"})
    assert (ann.metadata, bob.metadata) == ({}, {"row": 2})
    assert {mail.account for mail in (ann, bob)} == {"shop"}
    assert [mail.tags for mail in (ann, bob)] == [["spring"], ["spring"]]


def test_an_entry_without_variables_is_a_template_all_the_same() -> None:
    (mail,) = read(mails=[{"to": "ann@y.org"}]).list_mails()
    assert mail.variables == {}


def test_a_mail_of_a_bulk_event_is_the_same_mail_when_it_is_stored_and_read_alone() -> None:
    for mail in read().list_mails():
        again = read_email(open_record(mail.to_json(), None), "cluster", RECORD)
        assert again == mail
        assert again.compute_digest() == mail.compute_digest()


def test_the_shared_part_of_the_digest_gives_the_digest_of_each() -> None:
    mails = read().list_mails()
    content = mails[0].fingerprint_content()
    assert [mail.compute_digest(content) for mail in mails] == [mail.compute_digest() for mail in mails]
    assert len({mail.compute_digest() for mail in mails}) == 2


def test_without_a_bulk_id_the_record_gives_the_identity() -> None:
    event = read(bulk_id=None)
    assert event.bulk_id == derive_record_id("cluster", RECORD)
    assert event == read(bulk_id=None)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"mails": []}, "/mails"),
        ({"mails": [{"to": f"u{number}@y.org"} for number in range(501)]}, "/mails"),
        ({"mails": [{"to": "ann@y.org"}, {"to": "nobody"}]}, "/mails/1/to"),
        ({"mails": [{"to": "a@y.org", "id": BULK["bulk_id"]}, {"to": "b@y.org", "id": BULK["bulk_id"]}]}, "/mails"),
        ({"mails": [{"to": "a@y.org", "name": "A\r\nBcc: x@y.org"}]}, "/mails/0/name"),
        ({"mails": [{"to": "a@y.org", "metadata": {"x": "y" * 9000}}]}, "/mails/0/metadata"),
        ({"text": None}, "/html"),
        ({"from": None}, "/from"),
        ({"bulk_id": "mine"}, "/bulk_id"),
    ],
)
def test_with_one_thing_wrong_the_whole_event_is_refused_and_says_where(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(UnreadableEvent) as refused:
        read(**changes)
    assert refused.value.errors[0]["pointer"] == pointer
    assert refused.value.event_id is None


def test_many_unusual_addresses_are_refused_before_they_are_read() -> None:
    with pytest.raises(UnreadableEvent, match="too many"):
        read(mails=[{"to": f'"a b"(comment) <"{number} x"@y.org> (more)'} for number in range(400)])


@pytest.mark.parametrize(("changes", "held"), [({"priority": "bulk"}, True), ({"send_at": 5}, True), ({}, False)])
def test_a_bulk_event_for_later_belongs_to_the_scheduler(changes: dict[str, Any], held: bool) -> None:
    assert open_record(orjson.dumps({**BULK, **changes}), None).belongs_to_scheduler is held


def test_a_bulk_event_is_the_same_after_being_written_and_read() -> None:
    event = read(expires_at="2026-01-01T00:00:00Z")
    assert BulkRequested.model_validate_json(event.to_json()) == event
    assert isinstance(event.list_mails()[0], EmailRequested)
