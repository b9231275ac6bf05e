"""How often intervals hold what they are for, in a world made up so that the truth is known."""

import numpy as np
import pytest

from detloss.compare import samples
from detloss.comparison.metrics import measure, parse_metrics
from detloss.evaluation import bootstrap
from detloss.evaluation.weighted_ap import WeightedAP
from tests.evaluation.made_up_matches import made_up_pair

IMAGES, SETS, DRAWS = 600, 500, 399
COUNTS = np.array([70, 75, 80, 100, 150, 250, 400, 800])
"""Objects of each class in a set, on average; no set has fewer than 30 of any."""

BEFORE = np.linspace(-1, 1, 8)
AFTER = BEFORE + np.linspace(0.8, 0, 8)
GROUPS = "rrrccfff"


@pytest.mark.slow
def test_the_interval_of_a_known_difference_covers_it_in_93_to_97_percent_of_sets() -> None:
    metrics = parse_metrics("AP,AP50,APr", ("bbox",))
    skills, rates = np.stack([BEFORE, AFTER]), COUNTS / IMAGES
    objects, tables = made_up_pair(np.random.default_rng(0), 100_000, rates, skills)
    world = [{("bbox", 0): WeightedAP.of(table, objects)} for table in tables]
    once = np.ones((1, 100_000), dtype=np.int32)
    before, after = (measure(metrics, weighted, GROUPS, once)[0][0] for weighted in world)
    truth = after - before
    covered, distinguished, own, lengths = [], [], [], []
    random = np.random.default_rng(2)
    for number in range(SETS):
        objects, tables = made_up_pair(np.random.default_rng((1, number)), IMAGES, rates, skills)
        assert np.bincount(objects.category).min() >= 30
        sets = [[{("bbox", 0): WeightedAP.of(table, objects)}] for table in tables]
        (base, better), _ = samples(sets, metrics, GROUPS, IMAGES, draws=DRAWS, seed=number)
        _, draws = better.less(base, random)
        low, high = bootstrap.percentiles(draws)
        covered.append((low <= truth) & (truth <= high))
        distinguished.append(bootstrap.p_values(draws) < 0.05)
        lengths.append(high - low)
        own.append((base.values, *base.interval(random)))
    expected = np.mean([values for values, _, _ in own], axis=0)
    of_own = np.mean([(low <= expected) & (expected <= high) for _, low, high in own], axis=0)
    shares = np.mean(covered, axis=0)
    print(f"truth {truth}, covered {shares}, distinguished {np.mean(distinguished, axis=0)}")
    print(f"mean length {np.mean(lengths, axis=0)}; a run's own, of {expected}, on average: covered {of_own}")
    assert ((shares >= 0.93) & (shares <= 0.97)).all(), shares
    assert ((of_own >= 0.93) & (of_own <= 0.97)).all(), of_own
