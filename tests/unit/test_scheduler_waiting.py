"""What is kept, moved and told of mail that waits for its time."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from services.scheduler.pacing.bulk_store import FoundMail
from services.scheduler.pacing.states import BulkState
from services.scheduler.waiting.announcing import tell
from services.scheduler.waiting.delayed import DelayedState, Expiry, delay, list_mails, move_expiry
from services.scheduler.waiting.store import ToldMail
from services.scheduler.waiting.views import Change, ScheduledMail, carry_out, choose_list, judge, view_paced
from shared.composing.composer import TooLarge, serialise
from shared.events import BulkRequested, EmailRequested, EmailRescheduled, EventType
from shared.problems import Problem
from shared.producing import Message
from shared.topics import Topics

NINE = datetime(2030, 1, 1, 9, tzinfo=UTC)
EXPIRY = Expiry(timedelta(hours=72), timedelta(days=7))
MAIL_ID, BULK_ID = UUID("018f3a5e-7c00-7000-8000-000000000001"), UUID("018f3a5e-7c00-7000-8000-000000000002")
FIELDS: dict[str, Any] = {"from": "a@x.org", "subject": "s", "text": "t"}


def build_mail(**fields: Any) -> EmailRequested:
    return EmailRequested.model_validate(FIELDS | {"id": str(MAIL_ID), "to": ["b@y.org"], "send_at": NINE} | fields)


def build_bulk(count: int) -> BulkRequested:
    mails = [{"to": f"user{number}@y.org"} for number in range(count)]
    return BulkRequested.model_validate(FIELDS | {"bulk_id": str(BULK_ID), "mails": mails, "send_at": NINE})


def store(event: EmailRequested | BulkRequested) -> Any:
    return delay(event, NINE, None, EXPIRY, 1_000_000)


def show(state: DelayedState = DelayedState.PENDING, **fields: Any) -> ScheduledMail:
    usual: dict[str, Any] = {"id": MAIL_ID, "state": state, "due_at": NINE, "created_at": NINE}
    names = ("expires_at", "rescheduled_at", "released_at", "cancelled_at", "bulk_id", "mail_count")
    return ScheduledMail(**{**dict.fromkeys(names), **usual, **fields})


class TestKeeping:
    def test_only_an_expiry_that_was_named_is_kept_apart(self) -> None:
        named = NINE + timedelta(hours=1)
        assert store(build_mail()).expires_at is None
        assert store(build_mail(expires_at=named)).expires_at == named

    def test_a_bulk_event_is_kept_with_its_id_and_how_many_mails_it_stands_for(self) -> None:
        kept = store(build_bulk(3))
        assert (kept.bulk_id, kept.mail_count) == (BULK_ID, 3)
        assert [each.recipients for each in list_mails(kept.event)] == [[f"user{n}@y.org"] for n in range(3)]
        assert kept.id not in {BULK_ID, *(each.id for each in list_mails(kept.event))}

    def test_a_mail_that_was_moved_leaves_as_if_it_had_been_stored_so(self) -> None:
        content = {
            "html": "<b>ü\u2028</b>",
            "variables": {"n": 1e16, "x": [None, 0.1]},
            "metadata": {"expires_at": "no"},
        }
        ten = NINE + timedelta(hours=1)
        moved = move_expiry(store(build_mail(**content)).event, EXPIRY.decide(None, ten))
        again = EmailRequested.model_validate_json(store(build_mail(**content, send_at=ten)).event)
        assert EmailRequested.model_validate_json(moved) == again

    def test_a_mail_at_the_limit_does_not_grow_by_being_moved(self) -> None:
        event = store(build_mail(send_at=NINE)).event
        assert len(move_expiry(event, EXPIRY.decide(None, NINE + timedelta(microseconds=1)))) == len(event)

    @pytest.mark.parametrize(
        "fields",
        [
            {"send_at": NINE},
            {"send_at": NINE + timedelta(microseconds=1)},
            {"send_at": None, "priority": "bulk"},
            {"expires_at": NINE + timedelta(microseconds=1), "send_at": "2030-01-01T00:00:00.1Z"},
        ],
    )
    def test_what_the_api_takes_is_never_too_large_for_the_expiry_that_is_written_in(self, fields: Any) -> None:
        mail = build_mail(**fields)
        limit = len(mail.to_json())
        while True:
            try:
                serialise(mail, limit)
                break
            except TooLarge:
                limit += 1
        assert delay(mail, NINE + timedelta(microseconds=1), None, EXPIRY, limit).event
        assert serialise(build_mail(send_at=None), len(build_mail(send_at=None).to_json()))


class TestChanging:
    def test_what_nobody_scheduled_is_not_found(self) -> None:
        with pytest.raises(Problem) as caught:
            judge(None, Change.CANCEL)
        assert caught.value.status == 404

    def test_what_is_as_it_is_to_be_is_no_problem(self) -> None:
        assert judge(show(), Change.RESCHEDULE, NINE) == show()
        cancelled = show(DelayedState.CANCELLED)
        assert judge(cancelled, Change.CANCEL) is cancelled

    async def test_a_mail_that_comes_between_two_looks_is_changed_all_the_same(self) -> None:
        """Found pending after it could not be cancelled: a 200 must not say so of a mail that will be sent."""
        applied, found = iter([None, show(DelayedState.CANCELLED)]), iter([show()])

        async def apply() -> ScheduledMail | None:
            return next(applied)

        async def find() -> ScheduledMail | None:
            return next(found)

        assert (await carry_out(Change.CANCEL, apply, find)).state is DelayedState.CANCELLED
        assert judge(show(due_at=NINE), Change.RESCHEDULE, NINE + timedelta(hours=1)) is None

    @pytest.mark.parametrize("state", [DelayedState.RELEASING, DelayedState.RELEASED, DelayedState.CANCELLED])
    def test_too_late_is_said_with_the_state(self, state: DelayedState) -> None:
        with pytest.raises(Problem) as caught:
            judge(show(state), Change.RESCHEDULE, NINE)
        assert (caught.value.status, caught.value.slug, caught.value.extra["state"]) == (409, "not-scheduled", state)

    def test_a_time_at_which_it_would_have_expired_is_pointed_at(self) -> None:
        with pytest.raises(Problem) as caught:
            judge(show(expires_at=NINE), Change.RESCHEDULE, NINE)
        assert caught.value.errors[0]["pointer"] == "/send_at"


class TestListing:
    def test_a_cursor_comes_back_as_the_position_it_was_and_belongs_to_its_list(self) -> None:
        mine = choose_list("shop", None, None, NINE)
        cursor = mine.write_cursor(show(due_at=NINE))
        assert mine.read_cursor(cursor) == (NINE, MAIL_ID)
        for other in (choose_list("x", None, None, NINE), choose_list("shop", DelayedState.PENDING, None, NINE)):
            with pytest.raises(Problem):
                other.read_cursor(cursor)

    def test_a_range_in_which_no_time_lies_is_refused(self) -> None:
        with pytest.raises(Problem):
            choose_list("shop", None, NINE, NINE)


class TestTelling:
    def tell(self, kind: str, mail: ToldMail) -> list[Message]:
        columns = {"mail_id": mail.id, "kind": kind, "at": NINE, "send_at": NINE + timedelta(hours=1)}
        return tell(columns, mail, Topics())

    def test_a_new_time_is_told_once_for_each_change_and_the_same_again(self) -> None:
        mail = ToldMail(MAIL_ID, "shop", None, None, is_bulk=False)
        (message,), (again,) = self.tell("rescheduled", mail), self.tell("rescheduled", mail)
        told = EmailRescheduled.model_validate_json(message.value)
        assert (message.topic, message.key) == ("email.requested", str(MAIL_ID).encode())
        assert (told.id, told.account, told.send_at) == (MAIL_ID, "shop", NINE + timedelta(hours=1))
        headers = dict(message.headers)
        assert headers["ce_type"] == EventType.RESCHEDULED.encode()
        assert headers["ce_id"] == dict(again.headers)["ce_id"]
        other = EmailRescheduled(id=MAIL_ID, send_at=NINE, rescheduled_at=NINE + timedelta(seconds=1))
        assert str(other.event_id()).encode() != headers["ce_id"]

    def test_of_a_bulk_event_every_mail_is_told(self) -> None:
        event = store(build_bulk(3)).event
        mail = ToldMail(uuid4(), "default", event, None, is_bulk=True)
        ids = [str(each.id).encode() for each in list_mails(event)]
        assert [each.key for each in self.tell("rescheduled", mail)] == ids
        cancelled = self.tell("cancelled", mail)
        assert [each.key for each in cancelled] == ids
        assert {orjson.loads(each.value)["reason"] for each in cancelled} == {"cancelled"}

    def test_what_has_been_told_and_dropped_is_not_told_again(self) -> None:
        assert self.tell("cancelled", ToldMail(MAIL_ID, "default", None, None, is_bulk=False)) == []


class TestMailWithPriorityBulk:
    def test_it_waits_until_it_is_handed_out_and_is_cancelled_only_before(self) -> None:
        waits = view_paced(FoundMail(MAIL_ID, BulkState.PENDING, NINE, NINE, None, None))
        assert (waits.state, waits.due_at, waits.expires_at) == (DelayedState.PENDING, NINE, NINE)
        assert judge(waits, Change.CANCEL) is None  # nothing stands against it
        dropped = view_paced(FoundMail(MAIL_ID, BulkState.CANCELLED, NINE, None, None, NINE))
        assert (dropped.state, dropped.cancelled_at) == (DelayedState.CANCELLED, NINE)
        for state in (BulkState.QUEUED, BulkState.SENT, BulkState.CANCELLED):
            left = view_paced(FoundMail(MAIL_ID, state, NINE, NINE, NINE, NINE))
            assert (left.state, left.released_at, left.cancelled_at) == (DelayedState.RELEASED, NINE, None)
            with pytest.raises(Problem):
                judge(left, Change.CANCEL)

    @pytest.mark.parametrize("send_at", [NINE, NINE + timedelta(hours=1)])
    def test_its_time_cannot_be_moved(self, send_at: datetime) -> None:
        waits = view_paced(FoundMail(MAIL_ID, BulkState.PENDING, NINE, None, None, None))
        with pytest.raises(Problem) as caught:
            judge(waits, Change.RESCHEDULE, send_at)
        assert caught.value.status == 409
