"""The links of mails that are about to leave."""

from collections.abc import Callable, Collection, Iterable, Mapping
from uuid import UUID

from services.scheduler.unsubscribing.lane_store import LaneLinkStore, LinkedMailing
from services.scheduler.unsubscribing.links import LinkMaker
from shared.retrying import Unavailable

MakeLink = Callable[[UUID], str]
_KNOWN = 10_000


class LinksUnavailable(Unavailable):
    """This process does not know where links lead: it has no MILENA_PUBLIC_URL."""


class LaneLinks:
    """Knows of each lane whether its mailing says how to unsubscribe: that does not change once there is a lane.

    Without a `maker` no mail of such a mailing may leave from here: it waits for a process that knows where links lead.
    """

    def __init__(self, store: LaneLinkStore, maker: LinkMaker | None) -> None:
        self._store = store
        self._maker = maker
        self._known: dict[int, LinkedMailing | None] = {}

    async def find_barred(self, lanes: Collection[int]) -> set[int]:
        """The lanes from which nothing may leave here. Raises DatabaseUnavailable."""
        if self._maker is not None or not lanes:
            return set()
        return {lane for lane, mailing in (await self._find(lanes)).items() if mailing}

    async def load(self, lanes: Iterable[int]) -> Mapping[int, MakeLink]:
        """What makes each recipient's link, of those lanes that have any. Raises Unavailable."""
        wanted = set(lanes)
        if not wanted:
            return {}
        linked = {lane: mailing for lane, mailing in (await self._find(wanted)).items() if mailing}
        if linked and self._maker is None:
            raise LinksUnavailable("MILENA_PUBLIC_URL is not set: mail that needs it waits")
        maker = self._maker
        return {lane: maker.begin(each.account, each.id) for lane, each in linked.items()} if maker else {}

    async def _find(self, lanes: Collection[int]) -> dict[int, LinkedMailing | None]:
        missing = [lane for lane in lanes if lane not in self._known]
        if missing:
            if len(self._known) > _KNOWN:
                self._known.clear()
            found = await self._store.find(missing)
            self._known |= {lane: found.get(lane) for lane in missing}
        return {lane: self._known.get(lane) for lane in lanes}
