"""AUC against scikit-learn, calibration error by hand, and that histograms merge."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from nnunet_fganet.evaluation.probability import (
    CALIBRATION_BINS,
    auc,
    auc_error,
    calibration_error,
    probability_histogram,
)

SHAPE = (8, 9)
labels = arrays.arrays(np.bool_, SHAPE, elements=st.booleans())
probabilities = arrays.arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32))


def network_like(seed: int, size: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """A thin wire, and probabilities as sure as a trained network's: nearly all of them close to 0 or 1."""
    rng = np.random.default_rng(seed)
    label = np.zeros((size, size), dtype=bool)
    label[size // 2 : size // 2 + 2] = True
    logits = np.where(label, rng.normal(2, 5, label.shape), rng.normal(-11, 3, label.shape))
    return label, (1 / (1 + np.exp(-logits))).astype(np.float32)


@given(labels, probabilities)
def test_auc_is_scikit_learns_to_within_the_stated_error(label: np.ndarray, probability: np.ndarray) -> None:
    assume(label.any() and not label.all())
    ranks = probability_histogram(label, probability).ranks
    assert abs(auc(ranks) - roc_auc_score(label.ravel(), probability.ravel())) <= auc_error(ranks) + 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_bins_cost_a_trained_networks_auc_less_than_a_ten_thousandth(seed: int) -> None:
    label, probability = network_like(seed)
    ranks = probability_histogram(label, probability).ranks
    assert auc_error(ranks) < 1e-4
    assert auc(ranks) == pytest.approx(roc_auc_score(label.ravel(), probability.ravel()), abs=1e-5)


@given(labels, probabilities)
def test_auc_of_the_other_class_is_the_same_and_of_the_wrong_answer_the_rest(
    label: np.ndarray, probability: np.ndarray
) -> None:
    assume(label.any() and not label.all())
    area = float(auc(probability_histogram(label, probability).ranks))
    assert float(auc(probability_histogram(~label, probability).ranks)) == pytest.approx(1 - area)
    assert 0 <= area <= 1


def test_auc_counts_pairs_by_hand() -> None:
    label, probability = np.array([[1, 1, 0, 0]], dtype=bool), np.array([[0.9, 0.4, 0.4, 0.1]])
    # Of four pairs three are ordered rightly and one is a tie.
    assert auc(probability_histogram(label, probability).ranks) == 3.5 / 4
    assert auc_error(probability_histogram(label, probability).ranks) == 0.5 / 4


def test_one_class_alone_has_no_auc() -> None:
    for value in (False, True):
        assert np.isnan(auc(probability_histogram(np.full(SHAPE, value), np.full(SHAPE, 0.5)).ranks))


def test_calibration_error_is_the_mean_distance_from_the_reliability_curve() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random((40, 50))
    label = rng.random((40, 50)) < probability**2  # too sure
    share, mean = calibration_curve(label.ravel(), probability.ravel(), n_bins=CALIBRATION_BINS)
    pixels = np.histogram(probability, bins=CALIBRATION_BINS, range=(0, 1))[0]
    expected = np.sum(pixels * np.abs(share - mean)) / pixels.sum()
    assert calibration_error(probability_histogram(label, probability).calibration) == pytest.approx(expected)


def test_calibration_error_by_hand() -> None:
    label, probability = np.array([[1, 0, 0, 0]], dtype=bool), np.array([[1.0, 0.98, 0.0, 0.5]])
    # Bins: {1.0, 0.98} has half its pixels wire, {0.0} none, {0.5} none.
    expected = 2 / 4 * abs(0.5 - 0.99) + 1 / 4 * 0.5
    assert calibration_error(probability_histogram(label, probability).calibration) == pytest.approx(expected)
    sure = probability_histogram(label, label.astype(np.float32))
    assert calibration_error(sure.calibration) == 0.0
    assert np.isnan(calibration_error(np.zeros((3, CALIBRATION_BINS))))


@given(st.lists(st.tuples(labels, probabilities), min_size=2, max_size=4))
def test_histograms_of_frames_add_up_to_that_of_all_pixels(frames: list[tuple[np.ndarray, np.ndarray]]) -> None:
    histograms = [probability_histogram(*frame) for frame in frames]
    together = probability_histogram(*(np.concatenate(parts) for parts in zip(*frames, strict=True)))
    assert np.array_equal(sum(each.ranks for each in histograms), together.ranks)
    assert sum(each.calibration for each in histograms) == pytest.approx(together.calibration)


@given(labels, probabilities, labels)
def test_pixels_that_do_not_count_are_in_no_bin(
    label: np.ndarray, probability: np.ndarray, counted: np.ndarray
) -> None:
    histogram = probability_histogram(label, probability, counted)
    expected = probability_histogram(label[counted][None], probability[counted][None])
    assert np.array_equal(histogram.ranks, expected.ranks)
    assert histogram.ranks.sum() == histogram.calibration[0].sum() == counted.sum()


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_what_is_no_probability_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        probability_histogram(np.zeros(SHAPE, dtype=bool), np.full(SHAPE, value))


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        probability_histogram(np.zeros((3, 3), dtype=bool), np.zeros((3, 4)))
