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


def test_warm_up_rises_in_even_steps_to_the_schedule():
    config = OptimConfig(lr=1.0, eta_min=0.0, power=1.0, warmup=3)
    # (t + 1) / 4 of the line 1, 0.9, 0.8, 0.7, ...
    expected = [1 / 4 * 1.0, 2 / 4 * 0.9, 3 / 4 * 0.8, 0.7, 0.6]
    assert [learning_rate(config, t, 11) for t in range(5)] == pytest.approx(expected)
    assert learning_rate(config, 10, 11) == 0


def test_a_single_iteration_runs_at_the_full_rate():
    assert learning_rate(PUBLISHED, 0, 1) == pytest.approx(0.01, rel=1e-12)


def test_beyond_the_end_it_stays_at_the_last_value():
    assert learning_rate(PUBLISHED, 60, 50) == 1e-4
