"""What the figures are made of."""

import pytest

from bench.figures import Paired, Spread, most_within, order, paired, percentile, slope


def test_percentiles_are_values_that_occurred() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert percentile(values, 0.5) == 3.0
    assert percentile(values, 0.99) == 5.0
    assert percentile(values, 0.2) == 1.0


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.5)])
def test_a_percentile_of_nothing_is_refused(values, share) -> None:
    with pytest.raises(ValueError, match=r"no values|share"):
        percentile(values, share)


def test_a_spread_tells_the_worst_value() -> None:
    spread = Spread.of([float(each) for each in range(1, 1001)])
    assert (spread.count, spread.p50, spread.p99, spread.p999, spread.most) == (1000, 500, 990, 999, 1000)


def test_rounds_alternate_who_begins() -> None:
    assert order(1) == "AB"
    assert order(4) == "ABBAABBA"
    with pytest.raises(ValueError, match="round"):
        order(0)


def test_the_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_the_medians() -> None:
    figures = Paired((10, 50, 20), (20, 100, 10))
    assert figures.ratio == 0.5
    assert figures.subject / figures.reference == 1.0


async def test_both_sides_are_measured_in_turn() -> None:
    turns = []

    def measure(name: str, value: float):
        async def once() -> float:
            turns.append(name)
            return value

        return once

    figures = await paired(measure("a", 1.0), measure("b", 4.0), rounds=2)
    assert "".join(turns) == "abba"
    assert figures.ratio == 0.25


def test_a_window_slides_and_is_open_at_its_beginning() -> None:
    assert most_within([], 1.0) == 0
    assert most_within([0.0, 1.0, 2.0], 1.0) == 1
    assert most_within([0.0, 0.5, 0.9, 1.4, 1.6], 1.0) == 3


def test_a_slope_is_growth_per_unit_whatever_the_level() -> None:
    assert slope([0.0, 0.5, 1.0], [200.0, 204.0, 208.0]) == pytest.approx(8.0)
    assert slope([0.0, 0.5, 1.0], [200.0, 200.0, 200.0]) == 0.0
