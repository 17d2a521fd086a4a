"""Intervals against scipy's bootstrap and against how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats

from nnunet_fganet.evaluation.bootstrap import percentile_interval, resampling_weights


def test_every_resampling_draws_as_many_groups_as_there_are() -> None:
    weights = resampling_weights(7, resamplings=50)
    assert weights.shape == (51, 7)
    assert np.all(weights.sum(axis=1) == 7)
    assert np.all(weights[0] == 1)


def test_the_same_seed_draws_the_same_groups() -> None:
    assert np.array_equal(resampling_weights(9, seed=4), resampling_weights(9, seed=4))
    assert not np.array_equal(resampling_weights(9, seed=4), resampling_weights(9, seed=5))


def test_the_interval_of_a_mean_is_scipys() -> None:
    values = np.random.default_rng(0).gamma(2, size=30)
    ours = percentile_interval(resampling_weights(30)[1:] @ values / 30)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile", rng=0).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_resampling_groups_holds_the_truth_where_resampling_frames_is_far_too_sure() -> None:
    """Twenty sequences of ten frames that are nearly alike, measured a hundred times; the true mean is zero."""
    rng = np.random.default_rng(1)
    held = {"groups": 0, "frames": 0}
    for repetition in range(100):
        sequences = rng.normal(size=(20, 1)) + 0.1 * rng.normal(size=(20, 10))
        for kind, values in (("groups", sequences.mean(axis=1)), ("frames", sequences.ravel())):
            weights = resampling_weights(len(values), resamplings=200, seed=repetition)[1:]
            low, high = percentile_interval(weights @ values / len(values))
            held[kind] += low <= 0 <= high
    assert held["groups"] >= 85
    assert held["frames"] <= 60


def test_resamplings_without_a_value_are_left_out() -> None:
    assert percentile_interval(np.array([np.nan, 2.0, 2.0])) == (2.0, 2.0)
    assert np.isnan(percentile_interval(np.array([np.nan]))).all()
    assert np.isnan(percentile_interval(np.array([]))).all()
