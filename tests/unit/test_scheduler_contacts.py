"""Rows of a file that speak of one contact, and how far an import is."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.contacts.contact import read_condition
from services.scheduler.contacts.contact_import import ContactImport, ImportState
from services.scheduler.contacts.identity import identify_recipient
from services.scheduler.contacts.merging import fold_rows, list_turns
from services.scheduler.contacts.store import ContactStore
from services.scheduler.importing.recipients import ATTRIBUTES_LIMIT, Recipient
from shared.database import Database

NOW = datetime(2030, 1, 1, tzinfo=UTC)
maybe_texts = st.none() | st.sampled_from(["", "Ann", "Bob"])
rows = st.builds(
    lambda address, name, timezone, tags, attributes: Recipient(
        1, 1, identify_recipient("shop", address), address, name, timezone, tags, attributes
    ),
    st.sampled_from(["ann@x.org", "ANN@x.org", "bob@x.org"]),
    maybe_texts,
    st.sampled_from([None, "", "Europe/Rome"]),
    st.sampled_from([None, (), ("a",), ("a", "b")]),
    st.none() | st.dictionaries(st.sampled_from("xyz"), st.sampled_from(["1", "2", None]), max_size=2),
)


def store(contacts: dict[Any, dict[str, Any]], row: Recipient) -> None:
    """As the database would, one row after the other."""
    kept = contacts.setdefault(row.id, {"name": "", "timezone": "", "tags": (), "attributes": {}})
    kept["address"] = row.address
    said = {"name": row.name, "timezone": row.timezone, "tags": row.tags}
    kept |= {field: value for field, value in said.items() if value is not None}
    laid = {**kept["attributes"], **(row.attributes or {})}
    kept["attributes"] = {name: value for name, value in laid.items() if value is not None}


@given(st.lists(rows, max_size=8))
def test_rows_that_are_folded_leave_what_they_leave_one_by_one(given_rows: list[Recipient]) -> None:
    one_by_one: dict[Any, dict[str, Any]] = {}
    at_once: dict[Any, dict[str, Any]] = {}
    for row in given_rows:
        store(one_by_one, row)
    folded = fold_rows(given_rows)
    for row in folded.recipients:
        store(at_once, row)
    assert at_once == one_by_one
    assert len(folded.recipients) == len(one_by_one)
    assert len(folded.recipients) + folded.repeated + folded.amended == len(given_rows)


def make_row(number: int, address: str, **attributes: Any) -> Recipient:
    contact_id = identify_recipient("shop", address)
    return Recipient(number, number, contact_id, address, attributes=attributes)


def test_rows_that_together_say_too_much_of_a_recipient_are_found() -> None:
    half = "x" * (ATTRIBUTES_LIMIT // 2)
    ann, bob, cid = "ann@x.org", "bob@x.org", "cid@x.org"
    given_rows = [make_row(1, ann, a=half), make_row(2, bob, a=half), make_row(3, ann, b=half)]
    given_rows += [make_row(4, bob, a=half[1:]), make_row(5, cid, a=half), make_row(6, cid, a=None, b=half)]
    assert fold_rows(given_rows).grown == {identify_recipient("shop", ann)}
    many = [make_row(number, ann, **{f"a{number}": 1}) for number in range(201)]
    assert not fold_rows(many[:200]).grown and fold_rows(many).grown


def test_the_turns_of_rows_hold_each_recipient_once_in_his_order() -> None:
    given_rows = [make_row(number, address) for number, address in enumerate(("a@x.org", "b@x.org", "a@x.org"))]
    assert [[row.number for row in turn] for turn in list_turns(given_rows)] == [[0, 1], [2]]
    assert list_turns([]) == []


class Noted(Database):
    """Knows all contacts already, and notes for whom statements are."""

    def __init__(self) -> None:
        self.asked: list[list[UUID]] = []

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        """As PostgreSQL would where nothing is new."""
        self.asked.append(args[0])
        return []


async def test_rows_are_locked_in_the_order_of_ids_whatever_the_order_of_the_file() -> None:
    given_rows = [make_row(number, f"user{number}@example.org") for number in range(20)]
    database = Noted()
    await ContactStore(database, database).merge("shop", given_rows)
    ids = sorted(row.id for row in given_rows)
    assert database.asked == [ids, ids]
    assert ids != [row.id for row in given_rows]


def test_case_makes_no_other_recipient_and_another_account_does() -> None:
    assert identify_recipient("shop", "Ann@X.org") == identify_recipient("shop", "ann@x.org")
    assert identify_recipient("shop", "ann@x.org") != identify_recipient("other", "ann@x.org")
    assert str(identify_recipient("shop", "ann@x.org")) == "6fc9133a-541d-5dab-9afa-d1d329fa12b3"  # for ever


def test_an_import_is_at_a_hundred_percent_only_once_it_is_over() -> None:
    def make(state: ImportState, received: int, size: int | None) -> float | None:
        return ContactImport(
            identify_recipient("", ""), None, state, None, size, received, 0, 0, 0, 0, 0, NOW, NOW, None
        ).percent

    assert make(ImportState.RECEIVING, 500, 1000) == 50.0
    assert make(ImportState.RECEIVING, 1000, 1000) == 99.9
    assert make(ImportState.RECEIVING, 500, None) is None
    assert make(ImportState.FINISHED, 0, None) == 100.0


def test_a_condition_means_the_text_and_the_value() -> None:
    assert read_condition("plan:pro") == ({"plan": "pro"},)
    assert read_condition("seats:5") == ({"seats": "5"}, {"seats": 5})
    assert read_condition("paid:true") == ({"paid": "true"}, {"paid": True})
    assert read_condition("url:http://x") == ({"url": "http://x"},)
    with pytest.raises(ValueError, match="name is a field of a contact"):
        read_condition("name:Ann")
