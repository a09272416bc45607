"""Rows that are most likely new, by COPY: PostgreSQL reads no JSON to take a row apart and looks for no conflict first.

A COPY is all or nothing. Where one row is there already (a record came twice, a mail was known) or cannot be written as
it is (NUL in a text), nothing was, and the caller's statement for any row has the word.
"""

import struct
from collections.abc import Callable, Collection, Sequence
from typing import Any

import asyncpg
from sqlalchemy import Table

from services.gateway.copying import RowPacker
from shared.database import Database

Row = dict[str, Any]
_REST = 4  # groups after one that failed: a copy in vain is work for nothing, a group that is not copied costs double


class CopyStore:
    """COPY into the table `name` (its schema with it), which is like `table`. Raises DatabaseUnavailable.

    `order` is the key's, in which all who write do so; `own` are the columns that no two rows share.
    """

    def __init__(
        self, database: Database, name: str, table: Table, *, order: Callable[[Row], Any], own: Collection[str]
    ) -> None:
        self._database = database
        self._name = name
        self._packer = RowPacker(table, own)
        self._order = order
        self._rest = 0

    async def copy(self, rows: Sequence[Row]) -> bool:
        """Write all rows, or none: False."""
        if self._rest:
            self._rest -= 1
            return False
        try:
            data = self._packer.pack(sorted(rows, key=self._order))
            await self._database.copy(self._name, self._packer.columns, data)
        except (asyncpg.UniqueViolationError, asyncpg.DataError, struct.error):
            self._rest = _REST
            return False
        return True
