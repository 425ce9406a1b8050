"""The learning rate against published values and values worked out by hand."""

from itertools import pairwise

import pytest

from crisscross.config import OptimConfig
from crisscross.engine.schedule import learning_rate

PUBLISHED = OptimConfig()


@pytest.mark.parametrize("iterations", [40000, 80000, 7])
def test_published_ends(iterations):
    assert learning_rate(PUBLISHED, 0, iterations) == pytest.approx(0.01, rel=1e-12)
    assert learning_rate(PUBLISHED, iterations - 1, iterations) == 1e-4


def test_published_values_between():
    # Half way through 40001 iterations exactly half is left: 0.5 ** 0.9 = 0.535886731.
    assert learning_rate(PUBLISHED, 20000, 40001) == pytest.approx(1e-4 + 9.9e-3 * 0.535886731, rel=1e-8)
    # A tenth is left: 0.1 ** 0.9 = 0.125892541.
    assert learning_rate(PUBLISHED, 36000, 40001) == pytest.approx(1e-4 + 9.9e-3 * 0.125892541, rel=1e-8)


def test_it_only_falls():
    rates = [learning_rate(PUBLISHED, iteration, 50) for iteration in range(50)]
    assert all(later < earlier for earlier, later in pairwise(rates))


def test_power_1_is_a_straight_line():
    config = OptimConfig(lr=1.0, eta_min=0.2, power=1.0)
    assert [learning_rate(config, t, 5) for t in range(5)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def rates_as_mmengine_updates_them(config, iterations):
    """Every iteration's rate by the recursions of mmengine's LinearLR and PolyLR, which know only the rate before."""
    warmup, cold, rate = config.warmup, 1e-6, config.lr
    for iteration in range(iterations):
        if iteration < warmup:
            gaps = warmup - 1
            rate *= cold if not iteration else 1 + (1 - cold) / (gaps * cold + (iteration - 1) * (1 - cold))
        elif place := iteration - warmup:
            left = 1 - 1 / (iterations - warmup - 1 - place + 1)
            rate = (rate - config.eta_min) * left**config.power + config.eta_min
        yield rate


@pytest.mark.parametrize(
    ("warmup", "iterations", "power", "eta_min"),
    [(0, 80, 0.9, 1e-4), (1500, 4000, 1.0, 0.0), (20, 650, 0.9, 1e-5), (2, 9, 0.9, 1e-4), (49, 50, 0.9, 1e-4)],
)
def test_warm_up_and_schedule_are_those_of_mmengine(warmup, iterations, power, eta_min):
    config = OptimConfig(lr=0.01, power=power, eta_min=eta_min, warmup=warmup)
    expected = list(rates_as_mmengine_updates_them(config, iterations))
    found = [learning_rate(config, iteration, iterations) for iteration in range(iterations)]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_warm_up_rises_to_the_whole_rate_and_the_schedule_falls_from_there():
    config = OptimConfig(lr=1.0, eta_min=0.0, power=1.0, warmup=5)
    # Quarters from a millionth to 1; then the six iterations that are left go down from 1 to 0 in fifths.
    expected = [1e-6, 0.25000075, 0.5000005, 0.75000025, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    assert [learning_rate(config, t, 11) for t in range(11)] == pytest.approx(expected, rel=1e-12)


def test_a_warm_up_of_one_iteration_does_not_hold_the_rate_down():
    config = OptimConfig(lr=1.0, eta_min=0.0, power=1.0, warmup=1)
    assert [learning_rate(config, t, 4) for t in range(4)] == pytest.approx([1e-6, 1.0, 0.5, 0.0])


def test_a_single_iteration_runs_at_the_full_rate():
    assert learning_rate(PUBLISHED, 0, 1) == pytest.approx(0.01, rel=1e-12)


def test_beyond_the_end_it_stays_at_the_last_value():
    assert learning_rate(PUBLISHED, 60, 50) == 1e-4
