"""Whether the consumer group still counts us as a member.

aiokafka can lose its membership for good and say nothing: after a pause longer than its poll interval, or when its
coordinator routine has died, it holds generation -1 and never joins again. A pause is no excuse: the heartbeat goes
on while nothing is consumed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.errors import KafkaError

from shared.kafka_access import KafkaAccess
from shared.topics import find_cluster_id

SESSION_S = 10.0
REBALANCE_S = 60.0
_PROBE_S = 5.0


class Membership:
    """Looked at every second. `find_coordinator` gives aiokafka's GroupCoordinator, None while there is none.

    A fault is no successful heartbeat for two sessions (while joining: as long as a join may last), although the
    broker has answered for one session since: while Kafka itself is away or has just come back, nobody is to blame.
    """

    def __init__(
        self,
        find_coordinator: Callable[[], Any],
        is_broker_there: Callable[[], Awaitable[bool]],
        *,
        session_s: float = SESSION_S,
        rebalance_s: float = REBALANCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find_coordinator = find_coordinator
        self._is_broker_there = is_broker_there
        self._session_s = session_s
        self._rebalance_s = rebalance_s
        self._clock = clock
        self._coordinator: Any = None
        self._heard = clock()
        self._answering_since: float | None = None

    async def find_fault(self) -> str | None:
        """None while all is well or nothing can be said; otherwise why this process is to end."""
        coordinator = self._find_coordinator()
        if coordinator is None:
            self._hear()
            return None
        if coordinator is not self._coordinator:
            self._listen_to(coordinator)
        limit = self._session_s + self._rebalance_s if coordinator._performed_join_prepare else 2 * self._session_s
        silent_s = self._clock() - self._heard
        if silent_s <= limit:
            return None
        if not await self._is_broker_there():
            self._hear()
            return None
        if self._answering_since is None:
            self._answering_since = self._clock()
        if self._clock() - self._answering_since < self._session_s:
            return None
        return f"no heartbeat for {silent_s:.0f} s, generation {coordinator.generation}"

    def _listen_to(self, coordinator: Any) -> None:
        """Hear of every successful heartbeat; aiokafka keeps its own account in a local variable."""
        beat = coordinator._do_heartbeat

        async def heard() -> bool:
            succeeded: bool = await beat()
            if succeeded:
                self._hear()
            return succeeded

        coordinator._do_heartbeat = heard
        self._coordinator = coordinator
        self._hear()

    def _hear(self) -> None:
        self._heard = self._clock()
        self._answering_since = None


def watch_membership(find_coordinator: Callable[[], Any], kafka: KafkaAccess) -> Membership:
    """The membership of a consumer of these brokers."""

    async def is_broker_there() -> bool:
        try:
            async with asyncio.timeout(_PROBE_S):
                await find_cluster_id(kafka)
        except (KafkaError, OSError, TimeoutError):
            return False
        return True

    return Membership(find_coordinator, is_broker_there)
