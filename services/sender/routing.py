"""The relays in order of priority, behind one narrow interface: what a pipeline needs to know of them."""

from collections.abc import Callable, Iterable

from services.sender.parcel import Parcel
from services.sender.relay import Relay


class Relays:
    """All relays of a process. `claims_per_connection` mails may be in transit for each connection (P3)."""

    def __init__(self, relay: Relay, claims_per_connection: int) -> None:
        self._relay = relay
        self._claims_per_connection = claims_per_connection

    @property
    def available(self) -> bool:
        """False while no relay can be reached (P10): nothing is to be claimed."""
        return self._relay.available

    @property
    def capacity(self) -> int:
        """How many mails may be in transit at once, claimed and without an ending; 0: nothing may begin."""
        return self._relay.connections * self._claims_per_connection if self.available else 0

    async def start(self) -> None:
        """Begin watching deadlines; connections are opened when there is mail."""
        await self._relay.start()

    async def stop(self) -> None:
        """Close every connection; mail on the wire becomes what it is (P6)."""
        await self._relay.stop()

    async def check(self) -> str | None:
        """For /readyz: None while any relay can be used."""
        return await self._relay.check()

    def submit(self, parcels: Iterable[Parcel]) -> None:
        """Send; each parcel gets its ending through its own `on_done`, or comes back through `on_returned`."""
        self._relay.submit(parcels)

    def recall(self, unwanted: Callable[[Parcel], bool]) -> None:
        """Give back what has not begun and is not to be sent now."""
        self._relay.recall(unwanted)

    def begin_no_more(self) -> None:
        """Give back what has not begun, now and from now on; what is on the wire goes on to its end."""
        self._relay.begin_no_more()
