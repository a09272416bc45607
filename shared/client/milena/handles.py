"""A mail that was accepted: what one can do with it, in a program that waits and in one that does not."""

from datetime import datetime
from typing import Protocol

from milena.status import EmailStatus, Event, ScheduledEmail

DEFAULT_WAIT_S = 60.0


class _Follower(Protocol):
    """What a handle needs of a Client."""

    def read_status(self, email_id: str, *, is_new: bool) -> EmailStatus: ...
    def wait(self, email_id: str, timeout: float) -> EmailStatus: ...
    def read_timeline(self, email_id: str, *, is_new: bool) -> list[Event]: ...
    def cancel(self, email_id: str) -> None: ...
    def reschedule(self, email_id: str, send_at: datetime | str, *, is_new: bool) -> ScheduledEmail: ...
    def retry(self, email_id: str, *, include_unknown: bool) -> "Handle": ...


class _AsyncFollower(Protocol):
    """What a handle needs of an AsyncClient."""

    async def read_status(self, email_id: str, *, is_new: bool) -> EmailStatus: ...
    async def wait(self, email_id: str, timeout: float) -> EmailStatus: ...
    async def read_timeline(self, email_id: str, *, is_new: bool) -> list[Event]: ...
    async def cancel(self, email_id: str) -> None: ...
    async def reschedule(self, email_id: str, send_at: datetime | str, *, is_new: bool) -> ScheduledEmail: ...
    async def retry(self, email_id: str, *, include_unknown: bool) -> "AsyncHandle": ...


class _Named:
    """Two handles of one mail are equal. `is_new`: it was just accepted, so that it will be known if it is not yet."""

    _is_new = False

    def __init__(self, email_id: str, *, is_new: bool = False) -> None:
        self._id = email_id
        self._is_new = is_new

    @property
    def id(self) -> str:
        """The mail's id."""
        return self._id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Named) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"


class Handle(_Named):
    """A mail, by its id. All methods raise MilenaError."""

    def __init__(self, client: _Follower, email_id: str, *, is_new: bool = False) -> None:
        super().__init__(email_id, is_new=is_new)
        self._client = client

    def status(self) -> EmailStatus:
        """Where it stands, for every recipient."""
        return self._client.read_status(self.id, is_new=self._is_new)

    def wait(self, timeout: float = DEFAULT_WAIT_S) -> EmailStatus:
        """Where it stands at its end. Raises StillOnItsWay after `timeout` seconds."""
        return self._client.wait(self.id, timeout)

    def timeline(self) -> list[Event]:
        """All that has happened to it."""
        return self._client.read_timeline(self.id, is_new=self._is_new)

    def cancel(self) -> None:
        """Ask that it be not sent; its status says whether that came in time. Raises AlreadyFinal."""
        self._client.cancel(self.id)

    def reschedule(self, send_at: datetime | str) -> ScheduledEmail:
        """Have it leave at another time, while it waits. Raises Conflict when it has left, or was cancelled."""
        return self._client.reschedule(self.id, send_at, is_new=self._is_new)

    def retry(self, *, include_unknown: bool = False) -> "Handle":
        """Try it again for those who got nothing. Raises Conflict."""
        return self._client.retry(self.id, include_unknown=include_unknown)


class AsyncHandle(_Named):
    """A mail, by its id, for asyncio. All methods raise MilenaError."""

    def __init__(self, client: _AsyncFollower, email_id: str, *, is_new: bool = False) -> None:
        super().__init__(email_id, is_new=is_new)
        self._client = client

    async def status(self) -> EmailStatus:
        """Where it stands, for every recipient."""
        return await self._client.read_status(self.id, is_new=self._is_new)

    async def wait(self, timeout: float = DEFAULT_WAIT_S) -> EmailStatus:
        """Where it stands at its end. Raises StillOnItsWay after `timeout` seconds."""
        return await self._client.wait(self.id, timeout)

    async def timeline(self) -> list[Event]:
        """All that has happened to it."""
        return await self._client.read_timeline(self.id, is_new=self._is_new)

    async def cancel(self) -> None:
        """Ask that it be not sent; its status says whether that came in time. Raises AlreadyFinal."""
        await self._client.cancel(self.id)

    async def reschedule(self, send_at: datetime | str) -> ScheduledEmail:
        """Have it leave at another time, while it waits. Raises Conflict when it has left, or was cancelled."""
        return await self._client.reschedule(self.id, send_at, is_new=self._is_new)

    async def retry(self, *, include_unknown: bool = False) -> "AsyncHandle":
        """Try it again for those who got nothing. Raises Conflict."""
        return await self._client.retry(self.id, include_unknown=include_unknown)
