"""How soon a process that ended is started again."""

from deploy.local.restarts import RestartPolicy


def test_process_that_ran_well_is_back_within_a_second() -> None:
    policy = RestartPolicy()
    assert [policy.delay_after(60) for _ in range(20)] == [0.5] * 20


def test_repeated_early_exits_are_spaced_further_and_further() -> None:
    policy = RestartPolicy()
    assert [policy.delay_after(1) for _ in range(7)] == [0.5, 0.5, 0.5, 1, 2, 4, 8]
    assert [policy.delay_after(1) for _ in range(50)][-1] == 30


def test_one_good_run_forgives_the_early_exits() -> None:
    policy = RestartPolicy()
    for _ in range(10):
        policy.delay_after(1)
    policy.delay_after(11)
    assert policy.delay_after(1) == 0.5
