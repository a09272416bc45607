"""What the client does, without doing it: generators that yield requests and pauses, and are sent answers.

The two clients differ only in how they carry a step out, so that there is one copy of all there is to know.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Any, Protocol, TypeAlias, TypeVar

from milena import calls
from milena.batches import BatchStatus
from milena.calls import Answer, Call, Lost, Pause
from milena.errors import (
    ApiError,
    BatchRefused,
    ConnectionFailed,
    MilenaError,
    NotFound,
    StillOnItsWay,
    build_error,
    read_error,
)
from milena.mail import write_time
from milena.retrying import NOTHING_MORE, Patience
from milena.status import EmailStatus, Event, ScheduledEmail

T = TypeVar("T")
Standing = TypeVar("Standing", bound="_Standing")
Flow: TypeAlias = Generator[Call | Pause, Any, T]
"""Sent back: an Answer or a Lost for a Call, None for a Pause."""


class _Standing(Protocol):
    """How something stands."""

    @property
    def is_over(self) -> bool: ...


_REFUSED_FOR_NOW = 429
_LAG = frozenset({404})  # of a mail that was accepted a moment ago nothing may be known yet
_FIRST_POLL_S, _LONGEST_POLL_S, _POLL_FACTOR = 0.1, 5.0, 1.5


def perform(call: Call, patience: Patience, also: frozenset[int] = NOTHING_MORE) -> Flow[Answer]:
    """One request, made again for as long as patience lasts. Raises ApiError, ConnectionFailed."""
    deadline = patience.clock() + patience.seconds
    for repeats in count():
        outcome: Answer | Lost = yield call
        if call.is_once and not (isinstance(outcome, Answer) and outcome.status == _REFUSED_FOR_NOW):
            break
        pause = patience.find_pause(outcome, repeats, also)
        if pause is None or patience.clock() + pause > deadline:
            break
        yield Pause(pause)
    if isinstance(outcome, Lost):
        raise ConnectionFailed(f"Milena did not answer: {outcome.why}")
    if outcome.status >= 300:
        raise read_error(outcome.status, outcome.body)
    return outcome


def ask(call: Call, patience: Patience) -> Flow[dict[str, Any]]:
    """Gives the answer's JSON, {} where there is none."""
    answer = yield from perform(call, patience)
    return answer.read() if answer.body else {}


def read_page(call: Call, after: str | None, patience: Patience) -> Flow[tuple[list[dict[str, Any]], str | None]]:
    """A page, and where the next one begins."""
    params = {**call.params, **({"after": after} if after else {})}
    page = yield from ask(replace(call, params=params), patience)
    return page["data"], page.get("next")


def send(mail: Mapping[str, Any], idempotency_key: str | None, patience: Patience) -> Flow[str]:
    """Gives the mail's id."""
    answer = yield from perform(calls.send(mail, idempotency_key), patience)
    return str(answer.read()["id"])


def send_batch(
    mails: Sequence[Mapping[str, Any]], idempotency_key: str | None, patience: Patience
) -> Flow[list[str | MilenaError]]:
    """Gives each mail's id, or its error, in order; as many requests as are needed.

    Raises ApiError, ConnectionFailed where the first of them fails; later ones leave the ids that there are.
    """
    return (yield from _send_in_turn(mails, idempotency_key, lambda some, key: _send_some(some, key, patience)))


def send_bulk(
    content: Mapping[str, Any],
    recipients: Sequence[Mapping[str, Any]],
    idempotency_key: str | None,
    patience: Patience,
) -> Flow[list[str | MilenaError]]:
    """Gives the id of each recipient's mail, or its error, in order; as many requests as are needed.

    Raises ApiError, ConnectionFailed where the first of them fails; later ones leave the ids that there are.
    """

    def send_some(some: Sequence[Mapping[str, Any]], key: str | None) -> Flow[list[str | MilenaError]]:
        answer = yield from perform(calls.send_bulk(content, some, key), patience)
        return [_read_result(each) for each in answer.read()["results"]]

    return (yield from _send_in_turn(recipients, idempotency_key, send_some))


def _send_in_turn(
    items: Sequence[Mapping[str, Any]],
    idempotency_key: str | None,
    send_some: Callable[[Sequence[Mapping[str, Any]], str | None], Flow[list[str | MilenaError]]],
) -> Flow[list[str | MilenaError]]:
    results: list[str | MilenaError] = []
    for number, some in enumerate(calls.cut_batch(items)):
        key = f"{idempotency_key}-{number}" if idempotency_key and number else idempotency_key
        try:
            results += yield from send_some(some, key)
        except MilenaError as exc:
            if not number:
                raise
            results += [exc] * len(some)
    return results


def _send_some(
    mails: Sequence[Mapping[str, Any]], idempotency_key: str | None, patience: Patience
) -> Flow[list[str | MilenaError]]:
    try:
        answer = yield from perform(calls.send_batch(mails, idempotency_key), patience)
        told = answer.read()["results"]
    except BatchRefused as exc:
        told = exc.document["results"]
    except ApiError as exc:
        if exc.status not in (404, 405):
            raise
        return (yield from _send_singly(mails, idempotency_key, patience))  # a gateway older than its batches
    return [_read_result(each) for each in told]


def _send_singly(
    mails: Sequence[Mapping[str, Any]], idempotency_key: str | None, patience: Patience
) -> Flow[list[str | MilenaError]]:
    results: list[str | MilenaError] = []
    for number, mail in enumerate(mails):
        try:
            results.append((yield from send(mail, idempotency_key and f"{idempotency_key}.{number}", patience)))
        except ApiError as exc:
            results.append(exc)
    return results


def read_status(email_id: str, patience: Patience, *, is_new: bool = False) -> Flow[EmailStatus]:
    """Where a mail stands. `is_new`: it was accepted, so that it will be known."""
    answer = yield from perform(calls.read_status(email_id), patience, _LAG if is_new else NOTHING_MORE)
    return EmailStatus.read(answer.read())


def read_timeline(email_id: str, patience: Patience, *, is_new: bool = False) -> Flow[list[Event]]:
    """What has happened to a mail, in order."""
    answer = yield from perform(calls.read_timeline(email_id), patience, _LAG if is_new else NOTHING_MORE)
    return [Event.read_line(email_id, each) for each in answer.read()["events"]]


def wait(email_id: str, timeout_s: float, patience: Patience) -> Flow[EmailStatus]:
    """Where a mail stands at its end. Raises StillOnItsWay, NotFound when the time is over.

    It is asked for more and more rarely. A mail nobody knows yet may be one that was accepted a moment ago.
    """
    deadline = patience.clock() + timeout_s
    pause = _FIRST_POLL_S
    while True:
        status, missing = None, None
        try:
            status = yield from read_status(email_id, patience)
        except NotFound as exc:
            missing = exc
        if status and status.is_over:
            return status
        left = deadline - patience.clock()
        if left <= 0:
            raise missing or StillOnItsWay(f"mail {email_id} is still on its way after {timeout_s:g} s", status)
        yield Pause(min(pause, left))
        pause = min(pause * _POLL_FACTOR, _LONGEST_POLL_S)


def cancel(email_id: str, patience: Patience) -> Flow[None]:
    """Ask that a mail be not sent. Raises AlreadyFinal."""
    yield from perform(calls.cancel(email_id), patience)


def reschedule(
    email_id: str, send_at: datetime | str, patience: Patience, *, is_new: bool = False
) -> Flow[ScheduledEmail]:
    """Have a mail that waits leave at another time. Raises Conflict. `is_new`: it was accepted, so it will be known."""
    time = write_time("send_at", send_at) if isinstance(send_at, datetime) else send_at
    answer = yield from perform(calls.reschedule(email_id, time), patience, _LAG if is_new else NOTHING_MORE)
    return ScheduledEmail.read(answer.read())


def retry(email_id: str, include_unknown: bool, patience: Patience) -> Flow[str]:
    """Have a mail tried again; gives the retry's id. Raises Conflict."""
    answer = yield from perform(calls.retry(email_id, include_unknown=include_unknown), patience)
    return str(answer.read()["id"])


def upload(
    items: Iterable[Mapping[str, Any]], params: Mapping[str, str], idempotency_key: str | None, patience: Patience
) -> Flow[BatchStatus]:
    """A batch that is stored, and runs. Raises BatchRefused."""
    answer = yield from perform(calls.upload(items, params, idempotency_key), patience)
    return BatchStatus.read(answer.read())


def read_batch(batch_id: str, patience: Patience) -> Flow[BatchStatus]:
    """How a batch stands."""
    answer = yield from perform(calls.read_batch(batch_id), patience)
    return BatchStatus.read(answer.read())


def change_batch(batch_id: str, change: str, patience: Patience) -> Flow[BatchStatus]:
    """How the batch stands then; of a retry, the batch that it is. Raises Conflict."""
    answer = yield from perform(calls.change_batch(batch_id, change), patience)
    return BatchStatus.read(answer.read())


def wait_batch(batch_id: str, timeout_s: float, patience: Patience) -> Flow[BatchStatus]:
    """How a batch stands at its end, or when the time is over."""
    return (yield from wait_until_over(lambda: read_batch(batch_id, patience), timeout_s, patience))


def wait_until_over(read: Callable[[], Flow[Standing]], timeout_s: float, patience: Patience) -> Flow[Standing]:
    """How something stands at its end, or when the time is over."""
    deadline = patience.clock() + timeout_s
    pause = _FIRST_POLL_S
    while True:
        status = yield from read()
        left = deadline - patience.clock()
        if status.is_over or left <= 0:
            return status
        yield Pause(min(pause, left))
        pause = min(pause * _POLL_FACTOR, _LONGEST_POLL_S)


def _read_result(result: Mapping[str, Any]) -> str | ApiError:
    if "problem" in result:
        problem = result["problem"]
        return build_error(int(problem.get("status", 500)), problem)
    return str(result["id"])


def create_task(task: Mapping[str, Any], patience: Patience) -> Flow[dict[str, Any]]:
    """Gives the task. Raises Conflict where the name is taken, also by a request whose answer was lost."""
    return (yield from ask(calls.create_task(task), patience))


def update_task(task_id: int, changes: Mapping[str, Any], patience: Patience) -> Flow[dict[str, Any]]:
    """Gives the task."""
    return (yield from ask(calls.update_task(task_id, changes), patience))


def list_tasks(patience: Patience) -> Flow[list[dict[str, Any]]]:
    """Gives every task of the account."""
    tasks: list[dict[str, Any]] = []
    after = None
    while True:
        page, after = yield from read_page(calls.list_tasks(), after, patience)
        tasks += page
        if after is None:
            return tasks


def list_jobs(patience: Patience) -> Flow[list[dict[str, Any]]]:
    """Gives every job."""
    jobs: list[dict[str, Any]] = (yield from perform(calls.list_jobs(), patience)).read()["data"]
    return jobs
