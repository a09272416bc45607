"""How PostgreSQL carries a list's statement out: by which index, and whether anything is read that is not shown."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from services.gateway.lists import ListFilter
from shared.database import LIST_PLANNING

INDEXES: dict[ListFilter | None, str] = {
    None: "emails_by_time",
    ListFilter.STATUS: "emails_by_status",
    ListFilter.RECIPIENT: "labels_by_recipient",
    ListFilter.TAG: "labels_by_tag",
    ListFilter.MAILING: "emails_by_mailing",
    ListFilter.BATCH: "emails_by_batch",
    ListFilter.KEY: "emails_by_key",
}
"""The index each list must be read by; a label's mail is looked up by the primary key."""

_PARENTS = """
    SELECT child.relname AS name, parent.relname AS parent FROM pg_inherits
    JOIN pg_class AS child ON child.oid = inhrelid JOIN pg_class AS parent ON parent.oid = inhparent
    WHERE parent.relkind = 'I'
"""
_Node = dict[str, Any]


async def find_faults(database_url: str, statement: str, arguments: Sequence[object], index: str) -> list[str]:
    """Carry a statement out as the API's connections do, by the plan they keep, and say what is wrong with the plan."""
    connection = await asyncpg.connect(database_url)
    try:
        for name, value in LIST_PLANNING.items():
            await connection.execute(f"SET {name} = {value}")
        parents = {row["name"]: row["parent"] for row in await connection.fetch(_PARENTS)}
        await connection.execute(f"PREPARE list AS {statement}")
        given = ", ".join(_quote(each) for each in arguments)
        told = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE list({given})")
        return list(_judge(list(_walk(orjson.loads(told)[0]["Plan"])), parents, index))
    finally:
        await connection.close()


def _judge(nodes: list[_Node], parents: dict[str, str], index: str) -> Iterator[str]:
    # Of a day without mails any index will do: it is one page.
    names: list[str] = [node["Index Name"] for node in nodes if "Index Name" in node and _count_pages(node) > 1]
    used = {parents.get(name, name) for name in names}
    if not {index} <= used <= {index, "emails_pkey"}:
        yield f"it is read by {', '.join(sorted(used)) or 'no index'}, not by {index}"
    for node in nodes:
        kind, pages = node["Node Type"], _count_pages(node)
        if kind in ("Seq Scan", "Sort") and pages > 1:
            yield f"a {kind} over {pages} pages"
        if node.get("Rows Removed by Filter"):
            yield f"{node['Rows Removed by Filter']} rows read in vain"


def _walk(node: _Node) -> Iterator[_Node]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)


def _count_pages(node: _Node) -> int:
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])


def _quote(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime | UUID | str):
        return f"'{value}'"
    raise TypeError(type(value))
