"""What the bench concludes from figures."""

import pytest

from tests.bench.targets import Target, compute_growth, judge, take_median, take_percentile

RATIO = Target("ours ÷ theirs", "ours", "mails_per_s", 10, over="theirs")
CEILING = Target("p99", "ours", "p99_ms", 150, at_least=False)


def _rounds(name: str, figure: str, *values: float) -> dict[str, list[dict[str, float]]]:
    return {name: [{figure: value} for value in values]}


def test_a_ratio_is_that_of_the_medians_so_that_one_bad_round_decides_nothing() -> None:
    rounds = _rounds("ours", "mails_per_s", 1000, 10, 1100) | _rounds("theirs", "mails_per_s", 100, 100, 9000)
    row = judge(RATIO, rounds)
    assert (row.measured, row.yardstick, row.value, row.verdict) == (1000, 100, 10, "met")


@pytest.mark.parametrize(("value", "verdict"), [(149.9, "met"), (150, "met"), (150.1, "missed")])
def test_a_ceiling_is_met_from_below(value: float, verdict: str) -> None:
    assert judge(CEILING, _rounds("ours", "p99_ms", value)).verdict == verdict


@pytest.mark.parametrize("rounds", [{}, _rounds("ours", "mails_per_s", 1000), _rounds("theirs", "mails_per_s", 100)])
def test_without_both_sides_a_ratio_is_not_measured(rounds: dict[str, list[dict[str, float]]]) -> None:
    row = judge(RATIO, rounds)
    assert (row.value, row.verdict) == (None, "not measured")


def test_a_ratio_just_below_its_bound_is_missed() -> None:
    rounds = _rounds("ours", "mails_per_s", 999) | _rounds("theirs", "mails_per_s", 100)
    assert judge(RATIO, rounds).verdict == "missed"


def test_a_round_without_the_figure_does_not_count() -> None:
    assert take_median({"ours": [{"p99_ms": 1.0}, {}, {"p99_ms": 3.0}]}, "ours", "p99_ms") == 2.0


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (99.5, 100), (100, 100), (0, 1)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    assert take_percentile([float(each) for each in range(100, 0, -1)], percent) == value


def test_warming_up_is_no_growth_but_a_leak_is() -> None:
    assert compute_growth([60, 100, 100, 101, 100, 99, 100, 100]) == 0
    assert compute_growth([60, 100, 102, 104, 106, 108, 110, 112]) == pytest.approx(7.84, abs=0.01)


def test_growth_is_not_told_from_a_few_samples() -> None:
    with pytest.raises(ValueError, match="too few"):
        compute_growth([100] * 6)
