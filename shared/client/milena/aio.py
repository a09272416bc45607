"""The client for asyncio: Client with `await`."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from milena import calls, flows
from milena.batches import BatchChange, BatchStatus, write_items, write_params
from milena.calls import Answer, Call, Lost, Pause
from milena.contacts import AsyncContacts, AsyncLists
from milena.errors import ConnectionFailed, MilenaError, read_error
from milena.events import Subscription
from milena.flows import Flow
from milena.handles import DEFAULT_WAIT_S, AsyncHandle
from milena.mail import Mail, Recipient, compose, name_filters
from milena.mailings import AsyncMailings
from milena.reach import AsyncReach
from milena.retrying import Patience
from milena.status import EmailStatus, Event, ScheduledEmail
from milena.transport import Caller, describe_connection, describe_request, describe_stream, read_answer, read_loss

T = TypeVar("T")


class AsyncClient(Caller):
    """Sends mail and tells what became of it; `aclose` it, or use `async with`. Arguments and errors as of Client."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 10.0,
        patience: Patience | float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, api_key, timeout_s, patience)
        self._http = httpx.AsyncClient(**describe_connection(self._configuration, timeout_s), transport=transport)
        self._reach = reach = AsyncReach(self._run, self._listen, self._download, self._patience)
        self.contacts = AsyncContacts(reach)
        self.lists = AsyncLists(reach)
        self.mailings = AsyncMailings(reach)

    async def send(self, *, idempotency_key: str | None = None, **mail: Unpack[Mail]) -> AsyncHandle:
        """See Client.send."""
        email_id = await self._run(flows.send(compose(mail), idempotency_key, self._patience))
        return AsyncHandle(self, email_id, is_new=True)

    async def send_batch(
        self, mails: Iterable[Mail | Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> list[AsyncHandle | MilenaError]:
        """See Client.send_batch."""
        found = await self._run(flows.send_batch([compose(mail) for mail in mails], idempotency_key, self._patience))
        return [AsyncHandle(self, each, is_new=True) if isinstance(each, str) else each for each in found]

    async def send_bulk(
        self,
        recipients: Iterable[Recipient | Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        **content: Unpack[Mail],
    ) -> list[AsyncHandle | MilenaError]:
        """See Client.send_bulk."""
        found = await self._run(flows.send_bulk(compose(content), list(recipients), idempotency_key, self._patience))
        return [AsyncHandle(self, each, is_new=True) if isinstance(each, str) else each for each in found]

    async def upload(
        self,
        mails: Iterable[Mail | Mapping[str, Any]],
        *,
        content: Mail | Mapping[str, Any] | None = None,
        name: str | None = None,
        all_or_nothing: bool = False,
        idempotency_key: str | None = None,
    ) -> BatchStatus:
        """See Client.upload."""
        items = write_items(mails, content)
        return await self._run(flows.upload(items, write_params(name, all_or_nothing), idempotency_key, self._patience))

    async def read_batch(self, batch_id: str) -> BatchStatus:
        """See Client.read_batch."""
        return await self._run(flows.read_batch(batch_id, self._patience))

    async def wait_batch(self, batch_id: str, timeout: float = DEFAULT_WAIT_S) -> BatchStatus:
        """See Client.wait_batch."""
        return await self._run(flows.wait_batch(batch_id, timeout, self._patience))

    async def change_batch(self, batch_id: str, change: BatchChange) -> BatchStatus:
        """See Client.change_batch."""
        return await self._run(flows.change_batch(batch_id, change, self._patience))

    def email(self, email_id: str) -> AsyncHandle:
        """The handle of a mail whose id is known."""
        return AsyncHandle(self, email_id)

    async def read_status(self, email_id: str, *, is_new: bool = False) -> EmailStatus:
        """See AsyncHandle.status."""
        return await self._run(flows.read_status(email_id, self._patience, is_new=is_new))

    async def read_timeline(self, email_id: str, *, is_new: bool = False) -> list[Event]:
        """See AsyncHandle.timeline."""
        return await self._run(flows.read_timeline(email_id, self._patience, is_new=is_new))

    async def wait(self, email_id: str, timeout: float = DEFAULT_WAIT_S) -> EmailStatus:
        """See AsyncHandle.wait."""
        return await self._run(flows.wait(email_id, timeout, self._patience))

    async def cancel(self, email_id: str) -> None:
        """See AsyncHandle.cancel."""
        await self._run(flows.cancel(email_id, self._patience))

    async def retry(self, email_id: str, *, include_unknown: bool = False) -> AsyncHandle:
        """See AsyncHandle.retry."""
        retry_id = await self._run(flows.retry(email_id, include_unknown, self._patience))
        return AsyncHandle(self, retry_id, is_new=True)

    async def reschedule(self, email_id: str, send_at: datetime | str, *, is_new: bool = False) -> ScheduledEmail:
        """See AsyncHandle.reschedule."""
        return await self._run(flows.reschedule(email_id, send_at, self._patience, is_new=is_new))

    async def scheduled(self, **filters: str) -> AsyncIterator[ScheduledEmail]:
        """See Client.scheduled."""
        async for each in self._reach.iterate(calls.list_scheduled(name_filters(filters))):
            yield ScheduledEmail.read(each)

    async def events(self, *, last_event_id: str | None = None, **filters: str) -> AsyncIterator[Event]:
        """See Client.events."""
        async for event in self._listen(Subscription(filters, self._patience, last_event_id)):
            yield event

    async def create_task(self, **task: Any) -> dict[str, Any]:
        """See Client.create_task."""
        return await self._run(flows.create_task(task, self._patience))

    async def update_task(self, task_id: int, **changes: Any) -> dict[str, Any]:
        """See Client.update_task."""
        return await self._run(flows.update_task(task_id, changes, self._patience))

    async def list_tasks(self) -> list[dict[str, Any]]:
        """See Client.list_tasks."""
        return await self._run(flows.list_tasks(self._patience))

    async def list_jobs(self) -> list[dict[str, Any]]:
        """See Client.list_jobs."""
        return await self._run(flows.list_jobs(self._patience))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _listen(self, subscription: Subscription) -> AsyncIterator[Event]:
        while True:
            answer = None
            try:
                async with self._http.stream(**describe_stream(subscription.build_call(), self._timeout_s)) as response:
                    if response.status_code >= 400:
                        await response.aread()
                        answer = read_answer(response)
                        subscription.judge(answer)
                    else:
                        async for chunk in response.aiter_bytes():
                            for event in subscription.feed(chunk):
                                yield event
            except httpx.TransportError:
                pass
            await asyncio.sleep(subscription.find_pause(answer))

    async def _download(self, call: Call) -> AsyncIterator[bytes]:
        """Gives a body as it comes. Raises ApiError, ConnectionFailed."""
        try:
            async with self._http.stream(**describe_stream(call, self._timeout_s)) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise read_error(response.status_code, response.content)
                async for chunk in response.aiter_bytes():
                    yield chunk
        except httpx.TransportError as exc:
            raise ConnectionFailed(f"Milena did not answer: {read_loss(exc).why}") from exc

    async def _run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                step = flow.send(await self._carry_out(step))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _carry_out(self, step: Call | Pause) -> Answer | Lost | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            return read_answer(await self._http.request(**describe_request(step)))
        except httpx.TransportError as exc:
            return read_loss(exc)
