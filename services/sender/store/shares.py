"""Leases of relays' limits, and what each process tells of its relays, in one short transaction a second."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from services.sender.shares import Holding, Limits, Share, Wish, assign
from services.sender.tables import relay, relay_share
from shared.database import Database

_TURN_S = 5  # whose turn it is changes so often where there are fewer connections than processes


@dataclass(frozen=True, slots=True)
class Report:
    """What a process wishes for at one relay, and how the relay is doing as seen from it.

    `state`: `closed` (the breaker lets mail through), `trial` (one mail shows whether it may) or `open`.
    `sent_rate`: mails it began per second of late. `slowed_to`: mails per second after the relay asked for fewer.
    """

    relay: str
    wish: Wish
    state: str = "closed"
    error: str | None = None
    sent_rate: float = 0.0
    slowed_to: float | None = None


@dataclass(frozen=True, slots=True)
class RelayAtProcess:
    """A relay as one running sender process sees it."""

    slot: int
    process: UUID
    state: str
    error: str | None
    open_connections: int
    connections: int
    rate: float | None
    sent_rate: float
    slowed_to: float | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RelayState:
    """A relay, its limits for all processes together, and the running processes that use it, by slot."""

    name: str
    kind: str
    priority: int
    connections: int
    mails_per_second: float | None
    processes: list[RelayAtProcess] = field(default_factory=list)


class ShareStore:
    """The statements on `sender.relay` and `sender.relay_share`. All times are PostgreSQL's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lease(
        self, limits: Sequence[Limits], slot: int, reports: Sequence[Report], lease: timedelta
    ) -> dict[str, Share]:
        """Tell what is, and take on a share of each relay reported on, by its name."""
        known = {each.relay: each for each in limits}
        async with self._database.transaction() as connection:
            names = sorted(each.relay for each in reports)
            await connection.execute(
                select(relay.c.name).where(relay.c.name.in_(names)).order_by(relay.c.name).with_for_update()
            )
            found = await connection.execute(
                select(relay_share, func.extract("epoch", func.now()).label("time")).where(
                    relay_share.c.relay.in_(names), relay_share.c.lease_until > func.now()
                )
            )
            rows = [row._mapping for row in found]
            turn = int(rows[0]["time"]) // _TURN_S if rows else 0
            shares = {each.relay: assign(known[each.relay], each.wish, _others(rows, each), turn) for each in reports}
            await connection.execute(_upsert([_to_row(each, shares[each.relay], slot) for each in reports], lease))
        return shares

    async def join(self, limits: Sequence[Limits], slot: int, process: UUID) -> None:
        """Make the relays known; the shares of this slot's last process, which is gone, are free at once."""
        async with self._database.transaction() as connection:
            rows = [
                {
                    "name": each.relay,
                    "kind": each.kind,
                    "priority": each.priority,
                    "connections": each.connections,
                    "mails_per_second": each.mails_per_second,
                }
                for each in sorted(limits, key=lambda each: each.relay)
            ]
            statement = insert(relay).values(rows)
            changed: dict[str, Any] = {name: statement.excluded[name] for name in rows[0] if name != "name"}
            changed["updated_at"] = func.now()
            await connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=changed))
            await connection.execute(
                delete(relay_share).where(
                    (relay_share.c.slot == slot) & (relay_share.c.process != process)
                    | (relay_share.c.lease_until < func.now() - timedelta(hours=1))
                )
            )

    async def leave(self, process: UUID) -> None:
        """Give every share of a process back."""
        async with self._database.transaction() as connection:
            await connection.execute(delete(relay_share).where(relay_share.c.process == process))

    async def list_relays(self) -> list[RelayState]:
        """The relays that running processes use, by priority, with each one's state there."""
        async with self._database.transaction() as connection:
            found = await connection.execute(
                select(
                    relay_share,
                    relay.c.kind,
                    relay.c.priority,
                    relay.c.connections.label("all_connections"),
                    relay.c.mails_per_second,
                )
                .join(relay, relay.c.name == relay_share.c.relay)
                .where(relay_share.c.lease_until > func.now())
                .order_by(relay.c.priority, relay.c.name, relay_share.c.slot, relay_share.c.process)
            )
            rows = [row._mapping for row in found]
        relays: dict[str, RelayState] = {}
        for row in rows:
            state = relays.setdefault(
                row["relay"],
                RelayState(row["relay"], row["kind"], row["priority"], row["all_connections"], row["mails_per_second"]),
            )
            state.processes.append(_to_process(row))
        return list(relays.values())


def _others(rows: Sequence[Mapping[Any, Any]], report: Report) -> list[Holding]:
    return [
        Holding(row["process"], row["wanted_connections"], row["wanted_rate"], row["connections"], row["rate"] or 0.0)
        for row in rows
        if row["relay"] == report.relay and row["process"] != report.wish.process
    ]


def _to_row(report: Report, share: Share, slot: int) -> dict[str, Any]:
    wish = report.wish
    return {
        "relay": report.relay,
        "process": wish.process,
        "slot": slot,
        "connections": share.held,
        "wanted_connections": wish.connections,
        "rate": share.rate,
        "wanted_rate": wish.rate,
        "state": report.state,
        "error": report.error,
        "open_connections": wish.open,
        "sent_rate": report.sent_rate,
        "slowed_to": report.slowed_to,
    }


def _upsert(rows: list[dict[str, Any]], lease: timedelta) -> Any:
    statement = insert(relay_share).values([row | {"lease_until": func.now() + lease} for row in rows])
    changed: dict[str, Any] = {name: statement.excluded[name] for name in (*rows[0], "lease_until")}
    changed["updated_at"] = func.now()
    return statement.on_conflict_do_update(index_elements=["relay", "process"], set_=changed)


def _to_process(row: Mapping[Any, Any]) -> RelayAtProcess:
    return RelayAtProcess(
        row["slot"],
        row["process"],
        row["state"],
        row["error"],
        row["open_connections"],
        row["connections"],
        row["rate"],
        row["sent_rate"],
        row["slowed_to"],
        row["updated_at"],
    )
