"""Contents by lane and id, as many of them in memory as are used again and again."""

from collections import OrderedDict
from collections.abc import Sequence
from uuid import UUID

from services.scheduler.pacing.messages import Bodies
from services.scheduler.pacing.store import PacingStore

_BYTES = 16 * 1024 * 1024


class Contents:
    """Loads contents; the latest stay, up to a bound."""

    def __init__(self, store: PacingStore) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[int, UUID], bytes] = OrderedDict()
        self._bytes = 0

    async def load(self, places: Sequence[tuple[int, UUID]]) -> Bodies:
        """The bodies. Raises Unavailable, KeyError where one is not there: rows and contents come together."""
        missing = [place for place in places if place not in self._kept]
        found = await self._store.load_contents(missing) if missing else {}
        bodies = {place: found[place] if place in found else self._kept[place] for place in places}
        for place, body in bodies.items():
            self._keep(place, body)
        return bodies

    def _keep(self, place: tuple[int, UUID], body: bytes) -> None:
        if place in self._kept:
            self._kept.move_to_end(place)
            return
        self._kept[place] = body
        self._bytes += len(body)
        while self._bytes > _BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped)
