"""The client for programs that wait for an answer (AsyncClient is for those that do not)."""

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from milena import calls, flows
from milena.batches import BatchChange, BatchStatus, write_items, write_params
from milena.calls import Answer, Call, Lost, Pause
from milena.contacts import Contacts, Lists
from milena.errors import ConnectionFailed, MilenaError, read_error
from milena.events import Subscription
from milena.flows import Flow
from milena.handles import DEFAULT_WAIT_S, Handle
from milena.mail import Mail, Recipient, compose, name_filters
from milena.mailings import Mailings
from milena.reach import Reach
from milena.retrying import Patience
from milena.status import EmailStatus, Event, ScheduledEmail
from milena.transport import Caller, describe_connection, describe_request, describe_stream, read_answer, read_loss

T = TypeVar("T")


class Client(Caller):
    """Sends mail and tells what became of it. Threads may share one; `close` it, or use `with`.

    Address and key: see find_configuration. `timeout_s` is for one request, `patience` says for how long it is made
    again. Every method raises MilenaError, and sends nothing twice.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 10.0,
        patience: Patience | float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, api_key, timeout_s, patience)
        self._http = httpx.Client(**describe_connection(self._configuration, timeout_s), transport=transport)
        self._reach = reach = Reach(self._run, self._listen, self._download, self._patience)
        self.contacts = Contacts(reach)
        self.lists = Lists(reach)
        self.mailings = Mailings(reach)

    def send(self, *, idempotency_key: str | None = None, **mail: Unpack[Mail]) -> Handle:
        """Send one mail; it is accepted when this returns. The same `idempotency_key` within 24 h is the same mail."""
        email_id = self._run(flows.send(compose(mail), idempotency_key, self._patience))
        return Handle(self, email_id, is_new=True)

    def send_batch(
        self, mails: Iterable[Mail | Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> list[Handle | MilenaError]:
        """Send many mails, up to 1,000 in one request; for each, in order, its handle or the error it met."""
        found = self._run(flows.send_batch([compose(mail) for mail in mails], idempotency_key, self._patience))
        return [Handle(self, each, is_new=True) if isinstance(each, str) else each for each in found]

    def send_bulk(
        self,
        recipients: Iterable[Recipient | Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        **content: Unpack[Mail],
    ) -> list[Handle | MilenaError]:
        """Send one content to many, filled in for each; for each, in order, the handle of his mail or its error.

        Subject, text and html are templates over `name`, `address` and each recipient's variables. Up to 1,000 go in
        one request, all or none of them.
        """
        found = self._run(flows.send_bulk(compose(content), list(recipients), idempotency_key, self._patience))
        return [Handle(self, each, is_new=True) if isinstance(each, str) else each for each in found]

    def upload(
        self,
        mails: Iterable[Mail | Mapping[str, Any]],
        *,
        content: Mail | Mapping[str, Any] | None = None,
        name: str | None = None,
        all_or_nothing: bool = False,
        idempotency_key: str | None = None,
    ) -> BatchStatus:
        """Upload up to 100,000 mails, which are sent in the background. `content`: what all say that do not say it.

        Bad ones are left out, unless `all_or_nothing` is true. Raises BatchRefused.
        """
        items = write_items(mails, content)
        return self._run(flows.upload(items, write_params(name, all_or_nothing), idempotency_key, self._patience))

    def read_batch(self, batch_id: str) -> BatchStatus:
        """How a batch stands."""
        return self._run(flows.read_batch(batch_id, self._patience))

    def wait_batch(self, batch_id: str, timeout: float = DEFAULT_WAIT_S) -> BatchStatus:
        """How a batch stands at its end, or when the time is over (`is_over` says which)."""
        return self._run(flows.wait_batch(batch_id, timeout, self._patience))

    def change_batch(self, batch_id: str, change: BatchChange) -> BatchStatus:
        """Pause, resume or cancel it, or retry what failed: then the answer is the batch of those."""
        return self._run(flows.change_batch(batch_id, change, self._patience))

    def email(self, email_id: str) -> Handle:
        """The handle of a mail whose id is known."""
        return Handle(self, email_id)

    def read_status(self, email_id: str, *, is_new: bool = False) -> EmailStatus:
        """See Handle.status."""
        return self._run(flows.read_status(email_id, self._patience, is_new=is_new))

    def read_timeline(self, email_id: str, *, is_new: bool = False) -> list[Event]:
        """See Handle.timeline."""
        return self._run(flows.read_timeline(email_id, self._patience, is_new=is_new))

    def wait(self, email_id: str, timeout: float = DEFAULT_WAIT_S) -> EmailStatus:
        """See Handle.wait."""
        return self._run(flows.wait(email_id, timeout, self._patience))

    def cancel(self, email_id: str) -> None:
        """See Handle.cancel."""
        self._run(flows.cancel(email_id, self._patience))

    def retry(self, email_id: str, *, include_unknown: bool = False) -> Handle:
        """See Handle.retry."""
        retry_id = self._run(flows.retry(email_id, include_unknown, self._patience))
        return Handle(self, retry_id, is_new=True)

    def reschedule(self, email_id: str, send_at: datetime | str, *, is_new: bool = False) -> ScheduledEmail:
        """See Handle.reschedule."""
        return self._run(flows.reschedule(email_id, send_at, self._patience, is_new=is_new))

    def scheduled(self, **filters: str) -> Iterator[ScheduledEmail]:
        """The account's mail that waits, soonest first. `filters`: state, `from_` and `to` (times as RFC 3339)."""
        return map(ScheduledEmail.read, self._reach.iterate(calls.list_scheduled(name_filters(filters))))

    def events(self, *, last_event_id: str | None = None, **filters: str) -> Iterator[Event]:
        """The account's events as they happen, for ever; goes on where it was when a connection breaks.

        `filters`: email_id, tag, mailing_id, batch_id, type. `last_event_id`: the `position` of an event, to go on
        behind it, as far as that is still held.
        """
        return self._listen(Subscription(filters, self._patience, last_event_id))

    def create_task(self, **task: Any) -> dict[str, Any]:
        """Make a task: `name`, `job_name`, `cron` and so on, as `POST /v1/tasks` takes them. Gives the task."""
        return self._run(flows.create_task(task, self._patience))

    def update_task(self, task_id: int, **changes: Any) -> dict[str, Any]:
        """Change what is given of a task; None takes back what it need not have."""
        return self._run(flows.update_task(task_id, changes, self._patience))

    def list_tasks(self) -> list[dict[str, Any]]:
        """Every task of the account."""
        return self._run(flows.list_tasks(self._patience))

    def list_jobs(self) -> list[dict[str, Any]]:
        """Every job there is, with the JSON Schema of its arguments."""
        return self._run(flows.list_jobs(self._patience))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self, subscription: Subscription) -> Iterator[Event]:
        while True:
            answer = None
            try:
                with self._http.stream(**describe_stream(subscription.build_call(), self._timeout_s)) as response:
                    if response.status_code >= 400:
                        response.read()
                        answer = read_answer(response)
                        subscription.judge(answer)
                    else:
                        for chunk in response.iter_bytes():
                            yield from subscription.feed(chunk)
            except httpx.TransportError:
                pass
            time.sleep(subscription.find_pause(answer))

    def _download(self, call: Call) -> Iterator[bytes]:
        """Gives a body as it comes. Raises ApiError, ConnectionFailed."""
        try:
            with self._http.stream(**describe_stream(call, self._timeout_s)) as response:
                if response.status_code >= 400:
                    response.read()
                    raise read_error(response.status_code, response.content)
                yield from response.iter_bytes()
        except httpx.TransportError as exc:
            raise ConnectionFailed(f"Milena did not answer: {read_loss(exc).why}") from exc

    def _run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                step = flow.send(self._carry_out(step))
        except StopIteration as end:
            result: T = end.value
            return result

    def _carry_out(self, step: Call | Pause) -> Answer | Lost | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            return read_answer(self._http.request(**describe_request(step)))
        except httpx.TransportError as exc:
            return read_loss(exc)
