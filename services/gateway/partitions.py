"""Making the read model's partitions ahead of time."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import structlog
from sqlalchemy.exc import DBAPIError

from services.gateway.store import PartitionStore
from services.gateway.tables import emails, labels, timeline

log = structlog.get_logger(__name__)

_REACH = timedelta(days=400)
_TABLES = (emails.name, timeline.name, labels.name)


class Partitions:
    """One partition a day for each table; days already seen to cost nothing."""

    def __init__(self, store: PartitionStore) -> None:
        self._store = store
        self._seen: set[date] = set()

    async def provide(self, days: Iterable[date]) -> None:
        """Make what is missing. A day whose rows already lie in the default partition stays there.

        So does one far from today: where publishers set the time, records may claim any day there is.
        """
        today = datetime.now(UTC).date()
        missing = sorted(day for day in set(days) - self._seen if abs(day - today) <= _REACH)
        for day in missing:
            for table in _TABLES:
                try:
                    await self._store.create_partition(table, day, day + timedelta(days=1))
                except DBAPIError as exc:
                    log.warning("partition not made", table=table, day=day.isoformat(), error=str(exc.orig)[:200])
            self._seen.add(day)
