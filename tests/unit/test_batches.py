"""What an item of a batch becomes, how its mails are numbered, and how a batch stands."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import orjson
import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.batches.control import Control
from services.scheduler.batches.item_store import BatchItemStore, FailedMail
from services.scheduler.batches.judging import BadItem, Judge, TooMuchApart
from services.scheduler.batches.numbering import MOST_ITEMS, derive_item_id, find_number
from services.scheduler.batches.progress import Batch, BatchState
from services.scheduler.batches.retrying import renew
from services.scheduler.batches.splitting import Piece
from services.scheduler.batches.store import BatchStore
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.pacing.lanes import LaneKey, LaneKind
from services.scheduler.pacing.pace import smooth_rate
from services.scheduler.pacing.rows import BulkRow
from services.scheduler.pacing.states import BulkState
from shared.composing.attachments import AttachmentRules
from shared.events import new_email_id
from shared.problems import Problem
from tests.support.gateway import make_key

NOW = datetime(2030, 1, 31, 9, tzinfo=UTC)
CONTENT = {"from": "shop@example.com", "subject": "Hello {{ name }}", "text": "Hello {{ name }}."}


def make_judge(batch_id: UUID, *senders: str, limit: int = 100_000) -> Judge:
    return Judge(batch_id, make_key(*senders or ("*@example.com",)), NOW, "00-t", AttachmentRules(), limit, 3 * limit)


def make_piece(number: int, item: Any) -> Piece:
    value = orjson.dumps(item)
    return Piece(number, number, value, len(value))


@given(st.integers(1, MOST_ITEMS), st.integers(1, MOST_ITEMS))
def test_ids_sort_as_their_numbers_and_tell_them(one: int, other: int) -> None:
    batch_id = new_email_id()
    first, second = derive_item_id(batch_id, one), derive_item_id(batch_id, other)
    assert (find_number(first), find_number(second)) == (one, other)
    assert (first < second) == (one < other) and (first == second) == (one == other)
    assert first != batch_id and (first.version, first.variant) == (7, batch_id.variant)
    assert first.int >> 80 == batch_id.int >> 80  # its time, by which the read model finds it


contents = st.fixed_dictionaries(
    {"from": st.just("shop@example.com"), "subject": st.sampled_from(["Hi", "Hi {{ name }}"])},
    optional={
        "html": st.sampled_from(["<p>{{ name }}</p>", "<p>plain</p>", '<img src="cid:x">']),
        "text": st.sampled_from(["{{ name }}", "plain", "{% if name %}yes{% endif %}"]),
        "tags": st.just(["a"]),
        "cc": st.just(["c@example.org"]),
        "expires_at": st.just("2030-02-01T09:00:00Z"),
        "callback": st.sampled_from(["https://x.example/", "no URL"]),
        "unsubscribe_url": st.just("https://x.example/leave"),
    },
)
own = st.fixed_dictionaries(
    {},
    optional={
        "to": st.sampled_from(
            [
                7,
                {},
                ["x"],
                "x, y@z.org",
                "ann@example.org",
                ["Ann <ann@example.org>"],
                [],
                ["a@b.org", "c@b.org"],
                "nobody",
                None,
            ]
        ),
        "variables": st.sampled_from([{"name": "Ann"}, {"name": '<img src="cid:y">'}, {}, {"name": "a\nb"}, None, 7]),
        "metadata": st.sampled_from([{"row": 1}, {}, None, []]),
        "reply_to": st.just(["r@example.com"]),
        "nonsense": st.just(1),
    },
)


@given(contents, st.lists(own, min_size=2, max_size=4))
def test_the_short_way_comes_to_what_the_long_way_comes_to(content: dict[str, Any], owns: list[dict[str, Any]]) -> None:
    batch_id = new_email_id()
    judge = make_judge(batch_id)
    for number, each in enumerate([{"to": ["first@example.org"], "variables": {"name": "First"}}, *owns], 1):
        piece = make_piece(number, content | each)
        assert judge.judge(piece) == make_judge(batch_id).judge(piece)


def test_a_link_that_all_have_in_common_is_in_the_mails_of_the_short_way_too() -> None:
    judge = make_judge(new_email_id())
    for number in (1, 2):
        link = {"unsubscribe_url": "https://x.example/leave"}
        row = judge.judge(
            make_piece(number, {**CONTENT, **link, "to": f"r{number}@example.org", "variables": {"name": "x"}})
        )
        assert isinstance(row, BulkRow) and orjson.loads(row.own)["unsubscribe_url"] == link["unsubscribe_url"]


def test_mails_of_one_content_share_it_and_keep_what_is_their_own() -> None:
    judge = make_judge(new_email_id())
    rows = [
        judge.judge(make_piece(number, {**CONTENT, "to": f"r{number}@example.org", "variables": {"name": "x"}}))
        for number in (1, 2, 300)
    ]
    assert len({row.content for row in rows if isinstance(row, BulkRow)}) == 1
    assert [find_number(row.id) for row in rows if isinstance(row, BulkRow)] == [1, 2, 300]


def test_a_first_item_says_what_all_others_do_not_say_themselves() -> None:
    batch_id = new_email_id()
    own = [{"to": f"r{n}@example.org", "variables": {"name": "x"}} for n in range(3)] + [
        {"text": "Own", "to": "a@b.org"}
    ]
    judge = make_judge(batch_id)
    assert judge.judge(make_piece(1, {"content": CONTENT})) is None
    said_once = [judge.judge(make_piece(number, each)) for number, each in enumerate([*own, {"to": "x"}], 2)]
    repeated = make_judge(batch_id)
    for number, each in enumerate(own, 1):
        assert said_once[number - 1] == repeated.judge(make_piece(number, {**CONTENT, **each}))
    bad = said_once[-1]
    assert isinstance(bad, BadItem) and (bad.number, bad.line) == (5, 6)


def test_a_first_item_whose_content_is_no_object_is_told_so() -> None:
    bad = make_judge(new_email_id()).judge(make_piece(1, {"content": 5}))
    assert isinstance(bad, BadItem)
    assert [each["pointer"] for each in bad.problem["errors"]] == ["/content"]
    assert "must be an object" in bad.problem["errors"][0]["detail"]


def test_content_said_once_is_not_judged_without_end() -> None:
    judge = replace(make_judge(new_email_id()), apart_limit=2000)
    judge.judge(make_piece(1, {"content": {**CONTENT, "html": "x" * 500}}))
    for number in range(2, 200):
        judge.judge(make_piece(number, {"to": f"r{number}@example.org", "variables": {"name": "x"}}))
        judge.judge(make_piece(number, {"to": "bad"}))
    with pytest.raises(TooMuchApart):
        for number in range(200, 210):
            judge.judge(make_piece(number, {"to": "a@b.org, c@d.org"}))


@pytest.mark.parametrize(
    ("fields", "status", "pointer"),
    [
        ({"id": "x"}, 422, "/id"),
        ({"batch_id": "x"}, 422, "/batch_id"),
        ({"template": {"name": "welcome"}}, 422, "/template"),
        ({"to": ["x@"]}, 422, "/to/0"),
        ({"variables": {}}, 422, "/variables/name"),
        ({"from": "a@other.org"}, 403, "/from"),
        ({"text": "x" * 2000}, 413, None),
    ],
)
def test_a_bad_item_says_what_a_single_mail_would(fields: dict[str, Any], status: int, pointer: str | None) -> None:
    judge = make_judge(new_email_id(), limit=2000)
    judge.judge(make_piece(1, {**CONTENT, "to": "a@example.org", "variables": {"name": "x"}}))
    bad = judge.judge(make_piece(2, {**CONTENT, "to": "a@example.org", "variables": {"name": "x"}, **fields}))
    assert isinstance(bad, BadItem)
    assert (bad.problem["status"], bad.number, bad.line) == (status, 2, 2)
    assert pointer is None or bad.problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_mail_that_failed_becomes_another_with_the_same_content(is_whole: bool) -> None:
    original, retry = new_email_id(), new_email_id()
    extra = {"cc": ["c@example.org"]} if is_whole else {}
    row = make_judge(original).judge(
        make_piece(3, {**CONTENT, "to": "a@example.org", "variables": {"name": str(original)}, **extra})
    )
    assert isinstance(row, BulkRow) and (row.content is None) == is_whole
    lane = LaneKey("default", LaneKind.BATCH, str(retry))
    again = renew(FailedMail(row.id, 3, row.content, row.own, None), 1, original, retry, lane, NOW)
    told = orjson.loads(again.content or b"{}") | orjson.loads(again.own)
    assert (again.id, told["batch_id"], told["retry_of"]) == (derive_item_id(retry, 1), str(retry), str(row.id))
    assert told["variables"] == {"name": str(original)}
    assert orjson.loads(row.content or row.own).keys() - told.keys() == set()


def make_batch(**fields: Any) -> Batch:
    counts = dict.fromkeys(BulkState, 0) | Counter(fields.pop("counts", {BulkState.PENDING: 10}))
    plain = Batch(
        UUID(int=1), "a", None, "open", None, 12, 2, False, None, None, NOW, NOW, None, None, None, 0, False, None, NOW,
        counts,
    )  # fmt: skip
    return replace(plain, **fields)


class Shelf(BatchStore):
    """Has one batch, and takes no other."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    async def find(self, batch_id: UUID, account: str) -> Batch | None:
        """As PostgreSQL would."""
        return self._batch


@pytest.mark.parametrize(
    ("fields", "slug", "told"),
    [
        ({"kept_state": "aborted"}, "batch-state", "Upload it again."),
        ({}, "not-final", "Wait for it."),
        ({"finished_at": NOW, "counts": {BulkState.SENT: 10}}, "nothing-to-retry", "None of its mails failed"),
    ],
)
async def test_a_retry_that_cannot_be_is_refused_before_a_batch_is_begun_for_it(
    fields: dict[str, Any], slug: str, told: str
) -> None:
    store = Shelf(make_batch(**fields))
    control = Control(store, cast(BatchItemStore, None), cast(BulkStore, None))
    with pytest.raises(Problem, match=told) as refused:
        await control.retry(cast(Request, None), UUID(int=1), make_key("*@example.com"))
    assert (refused.value.status, refused.value.slug) == (409, slug)


def test_a_batch_is_at_100_only_once_it_is_finished() -> None:
    almost = make_batch(items=100_002, counts={BulkState.SENT: 99_999, BulkState.DEFERRED: 1})
    assert almost.percent == 99.9
    assert make_batch(counts={BulkState.SENT: 10}, finished_at=NOW).percent == 100.0
    assert make_batch(items=0, invalid=0, counts={}).percent == 0.0


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, BatchState.RUNNING),
        ({"paused": True}, BatchState.PAUSED),
        ({"finished_at": NOW}, BatchState.FINISHED),
        ({"cancelled_at": NOW, "paused": True}, BatchState.CANCELLED),
        ({"cancelled_at": NOW, "finished_at": NOW}, BatchState.CANCELLED),
        ({"kept_state": "receiving", "paused": True}, BatchState.RECEIVING),
        ({"kept_state": "aborted", "paused": True}, BatchState.ABORTED),
    ],
)
def test_a_batchs_state_follows_from_what_is_kept(fields: dict[str, Any], state: BatchState) -> None:
    assert make_batch(**fields).state is state


def test_the_end_is_estimated_only_while_it_comes_nearer() -> None:
    running = make_batch(rate=2.0, sampled_at=NOW, counts={BulkState.PENDING: 9, BulkState.QUEUED: 1})
    assert running.estimate_end() == NOW + timedelta(seconds=5)
    for still in (replace(running, paused=True), replace(running, rate=0.0), replace(running, rate=1e-12)):
        assert still.estimate_end() is None


def test_a_revision_is_another_one_whenever_there_is_news() -> None:
    later = NOW + timedelta(microseconds=1)
    stands = [make_batch(), make_batch(changed_at=later), make_batch(changed_at=later, finished_at=NOW)]
    assert len({batch.revision for batch in stands}) == 3
    assert make_batch(rate=5.0).revision == make_batch().revision


def test_a_rate_follows_what_happens_within_seconds() -> None:
    rate = smooth_rate(None, 100, 1.0)
    assert rate == 100
    for _ in range(20):
        rate = smooth_rate(rate, 50, 1.0)
    assert 50 < rate < 52
    for _ in range(60):
        rate = smooth_rate(rate, 0, 1.0)
    assert rate == 0.0
    assert smooth_rate(7.0, 5, 0.0) == 7.0
