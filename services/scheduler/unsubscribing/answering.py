"""What is done for whoever has a link, without a key."""

import time
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address

from services.scheduler.unsubscribing.links import InvalidLink, Link, LinkReader
from services.scheduler.unsubscribing.page import Sight, ask, confirm
from services.scheduler.unsubscribing.store import Source, UnsubscriptionStore
from services.scheduler.unsubscribing.throttle import Throttle
from shared.metrics import RATE_LIMITED, UNSUBSCRIPTIONS
from shared.problems import Problem

FIELD, VALUE = "List-Unsubscribe", "One-Click"


class LinkAnswers:
    """Shows and does what a link stands for. Raises Problem, DatabaseUnavailable."""

    def __init__(
        self,
        store: UnsubscriptionStore,
        reader: LinkReader | None,
        throttle: Throttle,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._reader = reader
        self._throttle = throttle
        self._clock = clock

    def admit(self, caller: IPv4Address | IPv6Address, token: str) -> Link:
        """The link, before anything is asked of PostgreSQL or read of a body. Raises Problem 404, 429."""
        wait_s = self._throttle.take(caller, self._clock())
        if wait_s:
            RATE_LIMITED.labels(limit="unsubscribe").inc()
            detail = f"That was often. Please try again in {wait_s} s."
            raise Problem(429, "rate-limited", detail, headers={"Retry-After": str(wait_s)}, retry_after=wait_s)
        try:
            if self._reader is None:
                raise InvalidLink
            return self._reader.read(token)
        except InvalidLink:
            detail = "This link is not whole, or was not made here. Please open it from the mail itself."
            raise Problem(404, "unknown-link", detail) from None

    async def show(self, link: Link) -> str:
        """The page. Whoever only looks changes nothing: programs open links to see what is behind them."""
        sight = await self._look(link)
        if not link.trial and await self._store.find(link.account, link.recipient):
            return confirm(sight)
        return ask(sight)

    async def unsubscribe(self, link: Link, form: Mapping[str, str]) -> str:
        """Do it, where the form says so; again it changes nothing. Raises Problem 400."""
        if form.get(FIELD, "").strip().lower() != VALUE.lower():
            detail = f"Send the form {FIELD}={VALUE} (RFC 8058, section 3.2); nothing else unsubscribes."
            raise Problem(400, "not-one-click", detail)
        if not link.trial:
            source = Source.PAGE if form.get("from") == "page" else Source.ONE_CLICK
            added = await self._store.add(link.account, [link.recipient], source, link.mailing)
            UNSUBSCRIPTIONS.labels(source=source).inc(added)
        return confirm(await self._look(link))

    async def _look(self, link: Link) -> Sight:
        return Sight(await self._store.find_sender(link), link.trial)
