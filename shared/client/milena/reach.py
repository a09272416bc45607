"""What the parts of a client need of it, in a program that waits and in one that does not."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from milena import flows
from milena.calls import Call
from milena.events import Subscription
from milena.flows import Flow
from milena.retrying import Patience
from milena.status import Event

T = TypeVar("T")


class _Run(Protocol):
    """Carries out what is to be done."""

    def __call__(self, flow: Flow[T], /) -> T: ...


class _AsyncRun(Protocol):
    """The same for asyncio."""

    def __call__(self, flow: Flow[T], /) -> Awaitable[T]: ...


@dataclass(frozen=True)
class Reach:
    """Of a Client."""

    run: _Run
    listen: Callable[[Subscription], Iterator[Event]]
    download: Callable[[Call], Iterator[bytes]]
    patience: Patience

    def ask(self, call: Call) -> dict[str, Any]:
        """The answer's JSON."""
        return self.run(flows.ask(call, self.patience))

    def iterate(self, call: Call) -> Iterator[dict[str, Any]]:
        """All of a list, page by page."""
        after: str | None = None
        while True:
            page, after = self.run(flows.read_page(call, after, self.patience))
            yield from page
            if after is None:
                return


@dataclass(frozen=True)
class AsyncReach:
    """Of an AsyncClient."""

    run: _AsyncRun
    listen: Callable[[Subscription], AsyncIterator[Event]]
    download: Callable[[Call], AsyncIterator[bytes]]
    patience: Patience

    async def ask(self, call: Call) -> dict[str, Any]:
        """The answer's JSON."""
        return await self.run(flows.ask(call, self.patience))

    async def iterate(self, call: Call) -> AsyncIterator[dict[str, Any]]:
        """All of a list, page by page."""
        after: str | None = None
        while True:
            page, after = await self.run(flows.read_page(call, after, self.patience))
            for each in page:
                yield each
            if after is None:
                return
