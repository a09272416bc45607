"""What a cell of the kill matrix asks for: mails that carry its mark, and how each of them has to end."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from shared.events import derive_bulk_entry_id
from tests.chaos.cells import Cell, Way
from tests.chaos.rig import SENDER_ADDRESS

_SINGLES, _ENTRIES, _QUEUE, _BAD = 12, 60, 30, 3


@dataclass
class Asked:
    """Records for email.requested. `due`: the recipient of each mail by its id; `bad`: records that must be refused."""

    records: list[dict[str, Any]] = field(default_factory=list)
    due: dict[str, str] = field(default_factory=dict)
    bad: list[dict[str, Any]] = field(default_factory=list)


def ask(cell: Cell) -> Asked:
    """One cell's mails. Those that wait long behind each other are more."""
    asked = Asked()
    if cell.way is Way.BULK:
        _ask_bulk(asked, cell)
    else:
        for _ in range(_QUEUE if cell.stage == "park" else _SINGLES):
            record = _make_single(cell)
            asked.records.append(record)
            asked.due[record["id"]] = record["to"][0]
    if cell.stage == "refuse":
        _ask_wrongly(asked, cell)
    return asked


def _ask_bulk(asked: Asked, cell: Cell) -> None:
    bulk_id = uuid4()
    entries = [{"to": _address(), "variables": {"name": f"Reader {number}"}} for number in range(_ENTRIES)]
    asked.records.append(
        {
            "bulk_id": str(bulk_id),
            "from": SENDER_ADDRESS,
            "subject": "Spring, {{ name }}",
            "text": "Dear {{ name }}",
            "tags": [cell.mark],
            "mails": entries,
        }
    )
    for number, entry in enumerate(entries):
        asked.due[str(derive_bulk_entry_id(UUID(str(bulk_id)), number))] = str(entry["to"])


def _ask_wrongly(asked: Asked, cell: Cell) -> None:
    """Records that cannot be sent: a mail without subject, or a bulk event with an entry that has no address."""
    for _ in range(_BAD):
        if cell.way is Way.BULK:
            asked.bad.append({**asked.records[0], "bulk_id": str(uuid4()), "mails": [{"to": _address()}, {}]})
        else:
            asked.bad.append(_make_single(cell) | {"subject": None})


def _make_single(cell: Cell) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "from": SENDER_ADDRESS,
        "to": [_address()],
        "subject": "Your order is on its way",
        "text": "Lorem ipsum dolor sit amet.\n" * 20,
        "tags": [cell.mark],
    }


def _address() -> str:
    return f"u{uuid4().hex[:12]}@example.org"
