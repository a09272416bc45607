"""Requests about contacts, lists and mailings. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from milena.calls import Call, name_key, write_json, write_lines
from milena.mail import write_time

CONTACTS, LISTS, MAILINGS = "/v1/contacts", "/v1/lists", "/v1/mailings"
Rows: TypeAlias = bytes | str | PathLike[str] | Iterable[Mapping[str, Any]]
"""A CSV file as bytes, a file by its path (`.ndjson` and `.jsonl`: JSON, a row a line; else CSV), or rows."""


def put_contact(address: str, fields: Mapping[str, Any]) -> Call:
    """Make a contact, or change the one with this address."""
    return write_json("POST", CONTACTS, {"address": address, **fields})


def read_contact(contact_id: str) -> Call:
    """Ask for a contact."""
    return Call("GET", _path(CONTACTS, contact_id))


def find_contact(address: str) -> Call:
    """Ask for the contact with an address."""
    return Call("GET", CONTACTS, {"address": address})


def list_contacts(tags: Sequence[str], attributes: Mapping[str, Any]) -> Call:
    """Ask for contacts that have all of these."""
    return Call("GET", CONTACTS, {**_filter(tags, attributes), "limit": "1000"})


def export_contacts(tags: Sequence[str], attributes: Mapping[str, Any], kind: str) -> Call:
    """Ask for a file of them."""
    return Call("GET", f"{CONTACTS}/export", {**_filter(tags, attributes), "format": kind})


def change_contact(contact_id: str, changes: Mapping[str, Any]) -> Call:
    """Change what is given of a contact."""
    return write_json("PATCH", _path(CONTACTS, contact_id), changes)


def erase_contact(contact_id: str) -> Call:
    """Erase a contact; asked twice, the proof is the same."""
    return Call("DELETE", _path(CONTACTS, contact_id))


def import_contacts(rows: Rows, name: str | None) -> Call:
    """Import contacts; imported twice they are the same."""
    return _upload(f"{CONTACTS}/import", rows, name, is_once=False)


def upload_list(rows: Rows, name: str | None) -> Call:
    """Upload a list; another upload would be another list."""
    return _upload(LISTS, rows, name, is_once=True)


def list_all(path: str, filters: Mapping[str, str | None], limit: int = 200) -> Call:
    """Ask for a list, with those filters that are given."""
    return Call("GET", path, {name: value for name, value in filters.items() if value} | {"limit": str(limit)})


def read_list(list_id: str) -> Call:
    """Ask for a list."""
    return Call("GET", _path(LISTS, list_id))


def delete_list(list_id: str) -> Call:
    """Delete a list."""
    return Call("DELETE", _path(LISTS, list_id))


def create_mailing(fields: Mapping[str, Any]) -> Call:
    """Make a draft; asked again there would be two."""
    return write_json("POST", MAILINGS, _write(fields), is_once=True)


def read_mailing(mailing_id: str) -> Call:
    """Ask how a mailing stands."""
    return Call("GET", _path(MAILINGS, mailing_id))


def change_mailing(mailing_id: str, changes: Mapping[str, Any]) -> Call:
    """Change what is given of a mailing."""
    return write_json("PATCH", _path(MAILINGS, mailing_id), _write(changes))


def delete_mailing(mailing_id: str) -> Call:
    """Delete a mailing."""
    return Call("DELETE", _path(MAILINGS, mailing_id))


def command_mailing(mailing_id: str, command: str) -> Call:
    """Check, start, pause, resume or cancel a mailing; asked twice it is done once."""
    return Call("POST", f"{_path(MAILINGS, mailing_id)}/{command}", is_slow=command == "check")


def preview_mailing(mailing_id: str, choice: Mapping[str, Any]) -> Call:
    """Ask what a recipient would read."""
    return write_json("POST", f"{_path(MAILINGS, mailing_id)}/preview", choice)


def test_mailing(mailing_id: str, request: Mapping[str, Any], idempotency_key: str | None) -> Call:
    """Send a test of it, once for each key."""
    return write_json("POST", f"{_path(MAILINGS, mailing_id)}/test", request, name_key(idempotency_key))


def retry_mailing(mailing_id: str, request: Mapping[str, Any]) -> Call:
    """Have those that failed until now tried again; a repeat would try again those that have failed since."""
    return write_json("POST", f"{_path(MAILINGS, mailing_id)}/retry", _write(request), is_once=True)


def list_recipients(mailing_id: str, state: str | None, reason: str | None) -> Call:
    """Ask who got a mailing."""
    return list_all(f"{_path(MAILINGS, mailing_id)}/recipients", {"state": state, "reason": reason}, 1000)


def name_events(mailing_id: str) -> str:
    """Where a mailing's progress is told."""
    return f"{_path(MAILINGS, mailing_id)}/events"


def _path(kind: str, thing_id: str) -> str:
    return f"{kind}/{quote(thing_id, safe='')}"


def _filter(tags: Sequence[str], attributes: Mapping[str, Any]) -> dict[str, str | Sequence[str]]:
    conditions = [f"{name}:{value}" for name, value in attributes.items()]
    return {**({"tag": list(tags)} if tags else {}), **({"attribute": conditions} if conditions else {})}


def _upload(path: str, rows: Rows, name: str | None, *, is_once: bool) -> Call:
    media, body = _write_rows(rows)
    params = {"name": name} if name else {}
    return Call("POST", path, params, {"content-type": media}, body, is_once=is_once, is_slow=True)


def _write_rows(rows: Rows) -> tuple[str, bytes]:
    lines = "application/x-ndjson"
    if isinstance(rows, bytes):
        return "text/csv", rows
    if isinstance(rows, str | PathLike):
        path = Path(fspath(rows))
        return lines if path.suffix in (".ndjson", ".jsonl") else "text/csv", path.read_bytes()
    return lines, write_lines(rows)


def _write(fields: Mapping[str, Any]) -> dict[str, Any]:
    """As the API takes them: `from_` is `from`, times as text. Raises ValueError for a time without a zone."""
    return {name.rstrip("_"): _write_value(name, value) for name, value in fields.items()}


def _write_value(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return write_time(name, value)
    return _write(value) if name in ("content", "hours") and isinstance(value, Mapping) else value
