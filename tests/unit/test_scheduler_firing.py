"""What a task that has fallen due does: misfires, clocks that are set, edits, one-offs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.scheduler.tasks.arming import arm, build_schedule, keeps_due_time
from services.scheduler.tasks.firing import Firing, Look, Watch, fire
from services.scheduler.tasks.task import Creator, Misfire, Task, TaskDefinition, TaskStatus, Timing
from services.scheduler.tasks.ticking import Firer
from shared.events import derive_occurrence_id

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
EVERY_MINUTE, EVERY_DAY = Timing(recurring_interval="EVERY_MINUTE"), Timing(cron="30 12 * * *")


def decide(
    due_at: datetime,
    now: datetime,
    misfire: Misfire = Misfire.RUN_ONCE,
    timing: Timing = EVERY_MINUTE,
    since: datetime | None = None,
) -> Firing:
    return fire(due_at, build_schedule(timing), misfire, Look(now, since, 30 * SECOND))


@pytest.mark.parametrize("misfire", Misfire)
def test_what_has_just_fallen_due_runs_and_is_due_next_in_time(misfire: Misfire) -> None:
    assert decide(NOON, NOON + SECOND, misfire) == Firing(NOON, None, NOON + MINUTE)


def test_after_an_outage_one_run_stands_for_all_that_was_missed() -> None:
    assert decide(NOON, NOON + 10 * HOUR + SECOND) == Firing(NOON, None, NOON + 10 * HOUR + MINUTE)


def test_with_skip_what_was_missed_is_passed_over_and_only_the_latest_still_runs() -> None:
    late = NOON + HOUR + 10 * SECOND
    assert decide(NOON, late, Misfire.SKIP) == Firing(NOON + HOUR, NOON, NOON + HOUR + MINUTE)
    later = NOON + HOUR + 40 * SECOND
    assert decide(NOON, later, Misfire.SKIP) == Firing(None, NOON, NOON + HOUR + MINUTE)


@pytest.mark.parametrize("misfire", Misfire)
def test_a_clock_set_forward_skips_nothing_and_starts_no_storm(misfire: Misfire) -> None:
    """The last look was half a second ago; the clock says an hour."""
    before, due_at = NOON + 10 * MINUTE, NOON + 30 * MINUTE
    after = before + HOUR
    daily = decide(due_at, after, misfire, EVERY_DAY, since=before)
    assert daily == Firing(due_at, None, due_at + 24 * HOUR)
    minutely = decide(before + MINUTE, after, misfire, since=before)
    assert minutely == Firing(before + MINUTE, None, after + MINUTE)


def test_a_clock_set_back_repeats_nothing() -> None:
    """What ran at noon is due at a minute past noon, also where it is eleven again; and the edit of a task that has
    run already comes to occurrences that are known by their ids."""
    fired = decide(NOON, NOON + SECOND)
    eleven = NOON - HOUR
    assert fired.next_due_at is not None
    assert fired.next_due_at > eleven
    again = arm(TaskDefinition(name="t", job_name="j", timing=EVERY_MINUTE), NOON - MINUTE - SECOND)
    assert again is not None
    assert derive_occurrence_id(7, again) == derive_occurrence_id(7, NOON - MINUTE)
    assert derive_occurrence_id(7, NOON) != derive_occurrence_id(8, NOON)


def test_the_time_of_a_due_time_never_lies_before_it_even_where_the_clock_ran_back_meanwhile() -> None:
    assert decide(NOON, NOON - HOUR).next_due_at == NOON + MINUTE


def test_a_one_off_ends_with_its_run_and_waits_for_the_next_match_where_it_was_passed_over() -> None:
    timing = Timing(recurring_interval="ONE_OFF", recurring_details={"hour": 12, "minute": 30})
    half_past = NOON + 30 * MINUTE
    assert decide(half_past, half_past + HOUR, timing=timing) == Firing(half_past, None, None)
    passed_over = decide(half_past, half_past + HOUR, Misfire.SKIP, timing)
    assert passed_over == Firing(None, half_past, half_past + 24 * HOUR)
    once = Timing(run_at=half_past)
    assert decide(half_past, half_past + HOUR, Misfire.SKIP, once) == Firing(None, half_past, None)


def test_whoever_was_away_by_the_monotonic_clock_has_missed_what_fell_due_meanwhile() -> None:
    watch = Watch(10 * SECOND)
    assert watch.look(NOON, 100.0, MINUTE).since is None
    jumped = watch.look(NOON + HOUR, 100.5, MINUTE)
    assert jumped.since == NOON
    assert not jumped.has_missed(NOON + MINUTE)
    assert jumped.has_missed(NOON - MINUTE)
    assert watch.look(NOON + 2 * HOUR, 3700.0, MINUTE).has_missed(NOON + HOUR + MINUTE)


def build_task(definition: TaskDefinition, next_due_at: datetime | None) -> Task:
    return Task(
        id=1,
        account="default",
        definition=definition,
        creator=Creator(),
        status=TaskStatus.CREATED,
        created_at=NOON,
        updated_at=NOON,
        next_due_at=next_due_at,
    )


def test_an_edit_fires_nothing_of_the_past_and_costs_no_run_that_is_due() -> None:
    before = TaskDefinition(name="t", job_name="j", timing=EVERY_MINUTE)
    renamed = TaskDefinition(name="u", job_name="j", timing=EVERY_MINUTE)
    moved = TaskDefinition(name="t", job_name="j", timing=Timing(cron="0 9 * * *", timezone="Asia/Tokyo"))
    off = TaskDefinition(name="t", job_name="j", timing=EVERY_MINUTE, enabled=False)
    assert keeps_due_time(build_task(before, NOON), renamed)
    assert not keeps_due_time(build_task(before, NOON), moved)
    assert not keeps_due_time(build_task(off, None), before)
    assert not keeps_due_time(build_task(before, None), renamed), "one that has ended is armed again"
    assert arm(off, NOON) is None
    for armed in (arm(moved, NOON), arm(before, NOON)):
        assert armed is not None
        assert armed > NOON


def test_an_occurrence_is_known_by_task_and_due_time_in_whole_milliseconds() -> None:
    half = NOON + timedelta(microseconds=1_499)
    assert derive_occurrence_id(1, half) == derive_occurrence_id(1, NOON + timedelta(milliseconds=1))
    assert derive_occurrence_id(1, NOON.astimezone()) == derive_occurrence_id(1, NOON)
    assert str(derive_occurrence_id(1, NOON)) == "e945ca3f-a12b-54f2-a311-dd8e69528bb3"


def test_a_run_that_a_clock_set_forward_has_made_old_may_still_begin() -> None:
    """With `skip` a run is given up where it cannot be begun in time: from now on, not from the hour that never was."""
    before = NOON + 10 * MINUTE
    look = Look(before + HOUR, before, 30 * SECOND)
    task = build_task(
        TaskDefinition(name="t", job_name="j", timing=EVERY_DAY, misfire=Misfire.SKIP, args={"a": 1}),
        NOON + 30 * MINUTE,
    )
    (run,) = Firer({"j": {"a": 0, "b": 2}}, 30 * SECOND).decide([task], look).runs
    assert (run.due_at, run.error, run.args) == (NOON + 30 * MINUTE, None, {"a": 1, "b": 2})
    assert run.begin_by == look.now + 30 * SECOND


def test_a_task_that_cannot_be_read_any_more_ends_visibly_and_holds_up_no_other() -> None:
    broken = build_task(TaskDefinition(name="t", job_name="j", timing=Timing(cron="not a line")), NOON)
    fine = build_task(TaskDefinition(name="u", job_name="j", timing=EVERY_MINUTE), NOON)
    made = Firer({}, 30 * SECOND).decide([broken, replace(fine, id=2)], Look(NOON + SECOND, None, 30 * SECOND))
    ended, ran = made.runs
    assert ended.error is not None
    assert ended.error["class"] == "InvalidSchedule"
    assert ran.error is None
    assert made.next_due == {1: None, 2: NOON + MINUTE}
