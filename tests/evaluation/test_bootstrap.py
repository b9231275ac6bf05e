"""Draws, intervals and p values beside numbers from tables and worked examples."""

import numpy as np
import pytest

from detloss.evaluation import bootstrap


def test_draws_are_as_many_images_as_there_are_and_the_same_in_any_batches() -> None:
    whole = np.concatenate(list(bootstrap.image_draws(7, 10, seed=3, at_once=10)))
    parts = list(bootstrap.image_draws(7, 10, seed=3, at_once=4))
    assert [len(part) for part in parts] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert (whole.sum(axis=1) == 7).all()
    many = next(bootstrap.image_draws(50, 4000, seed=0, at_once=4000))
    assert many.mean(axis=0) == pytest.approx(np.ones(50), abs=0.08)  # 5 standard errors
    assert many.var() == pytest.approx(1 - 1 / 50, abs=0.02)  # binomial


def test_the_interval_of_999_draws_is_from_the_25th_to_the_975th() -> None:
    draws = np.random.default_rng(0).permutation(np.arange(1.0, 1000.0))
    low, high = bootstrap.percentiles(draws[:, None])
    assert (low[0], high[0]) == pytest.approx((25, 975))
    holes = np.concatenate([draws, np.full(300, np.nan)])[:, None]
    assert bootstrap.percentiles(holes)[0][0] == pytest.approx(25)


def test_the_interval_of_an_estimate_lies_around_it() -> None:
    draws = np.linspace(0.6, 0.8, 999)[:, None]  # draws come out 0.1 too high
    low, high = bootstrap.centred(np.array([0.6]), draws)
    assert (low[0], high[0]) == pytest.approx((0.505, 0.695), abs=1e-3)


def test_p_is_below_5_percent_just_where_0_is_outside_the_interval() -> None:
    random = np.random.default_rng(1)
    draws = random.normal(random.uniform(0, 3.5, 400), 1, (499, 400))
    low, high = bootstrap.percentiles(draws)
    outside = (low > 0) | (high < 0)
    assert 50 < outside.sum() < 350
    p = bootstrap.p_values(draws)
    assert (outside == (p < 0.05)).mean() > 0.98  # a draw at the very border
    assert bootstrap.p_values(-draws) == pytest.approx(p)
    assert bootstrap.p_values(np.zeros((99, 1))) == 1
    assert bootstrap.p_values(np.ones((99, 1))) == pytest.approx(0.02)


def test_p_values_are_corrected_as_in_holms_worked_example() -> None:
    # By hand: 0.005 * 4, 0.01 * 3, then 0.03 * 2, and 0.04 * 1 is raised to the one before it.
    assert bootstrap.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert bootstrap.holm([0.6, 0.7]) == [1, 1]
    assert bootstrap.holm([]) == []


def test_the_seeds_interval_is_students() -> None:
    values = np.array([[0.30], [0.34], [0.35]])  # standard deviation 0.02646, standard error 0.01528
    errors = values.std(axis=0, ddof=1) / 3**0.5
    random = np.random.default_rng(0)
    low, high = bootstrap.percentiles(bootstrap.seed_noise(errors[None], np.array([3]), 200_000, random))
    assert (low[0], high[0]) == pytest.approx((-4.303 * 0.01528, 4.303 * 0.01528), rel=0.02)  # t of 2, tables
    # Of two such means Welch's t has 4 degrees of freedom: 2.776 by tables.
    twice = bootstrap.seed_noise(np.stack([errors, errors]), np.array([3, 3]), 200_000, random)
    assert bootstrap.percentiles(twice)[1][0] == pytest.approx(2.776 * 0.01528 * 2**0.5, rel=0.02)
    assert not bootstrap.seed_noise(np.zeros((2, 1)), np.array([3, 3]), 10, random).any()
