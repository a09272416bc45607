"""Contacts written as files that can be imported again. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from services.scheduler.contacts.contact import Contact
from services.scheduler.importing.csv_writer import write_rows
from services.scheduler.importing.formulas import guard_cell
from services.scheduler.importing.recipients import TAG_SEPARATOR

_OWN = ("address", "name", "timezone", "tags")


def write_csv_head(names: Sequence[str]) -> str:
    """The first row: a column for each attribute of these names."""
    return write_rows([[*_OWN, *map(guard_cell, names)]])


def write_csv(contacts: Iterable[Contact], names: Sequence[str]) -> str:
    """A row a contact. What is no text is written as JSON; an attribute that there is not, as an empty cell. No text is
    taken for a formula by a spreadsheet."""
    return write_rows(
        [
            guard_cell(contact.address),
            guard_cell(contact.name),
            contact.timezone or "",
            guard_cell(TAG_SEPARATOR.join(contact.tags)),
            *(_write_cell(contact.attributes.get(name)) for name in names),
        ]
        for contact in contacts
    )


def write_lines(contacts: Iterable[Contact]) -> bytes:
    """A contact a line, as JSON: nothing is lost."""
    return b"".join(
        orjson.dumps(
            {
                "address": contact.address,
                "name": contact.name,
                "timezone": contact.timezone,
                "tags": contact.tags,
                "attributes": contact.attributes,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for contact in contacts
    )


def _write_cell(value: Any) -> str:
    if value is None:
        return ""
    return guard_cell(value) if isinstance(value, str) else orjson.dumps(value).decode()
