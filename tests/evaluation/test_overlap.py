"""Dice and clDice against scikit-learn, by hand, and on properties that any frame must have."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from nnunet_fganet.evaluation.overlap import OverlapCounts, cl_dice, overlap_counts, pooled_dice

masks = arrays.arrays(np.uint8, (12, 9), elements=st.integers(0, 1))


def horizontal_wire(row: int, start: int, stop: int, half_width: int = 1) -> np.ndarray:
    mask = np.zeros((32, 64), np.uint8)
    mask[row - half_width : row + half_width + 1, start:stop] = 1
    return mask


@given(masks, masks)
def test_dice_is_the_f1_score_of_the_pixels(label: np.ndarray, prediction: np.ndarray) -> None:
    expected = f1_score(label.ravel(), prediction.ravel(), zero_division=1.0)
    assert overlap_counts(label, prediction).dice == pytest.approx(expected)


@given(st.lists(st.tuples(masks, masks), max_size=4))
def test_pooled_dice_is_the_dice_of_all_frames_laid_side_by_side(frames: list[tuple[np.ndarray, np.ndarray]]) -> None:
    pooled = pooled_dice(overlap_counts(label, prediction) for label, prediction in frames)
    together = [np.concatenate(arrays) for arrays in zip(*frames, strict=True)] if frames else [np.zeros(1)] * 2
    assert pooled == pytest.approx(overlap_counts(*together).dice)


@pytest.mark.parametrize("value", [1, 7, 255, True])
def test_any_non_zero_value_is_wire(value: int) -> None:
    label = horizontal_wire(10, 5, 40)
    prediction = np.where(label, value, 0).astype(np.uint8)
    assert overlap_counts(label, prediction) == OverlapCounts(int(label.sum()), 0, 0)
    assert cl_dice(label, prediction) == 1.0


def test_empty_frames_have_the_values_that_are_written_down() -> None:
    empty, wire = np.zeros((32, 64), np.uint8), horizontal_wire(10, 5, 40)
    assert overlap_counts(empty, empty).dice == cl_dice(empty, empty) == 1.0
    assert overlap_counts(empty, wire).dice == cl_dice(empty, wire) == 0.0
    assert overlap_counts(wire, empty).dice == cl_dice(wire, empty) == 0.0
    assert pooled_dice([]) == pooled_dice([overlap_counts(empty, empty)]) == 1.0


def test_an_empty_frame_adds_its_false_positives_to_the_pool_only() -> None:
    wire, empty = horizontal_wire(10, 0, 60), np.zeros((32, 64), np.uint8)
    perfect = overlap_counts(wire, wire)
    assert pooled_dice([perfect, overlap_counts(empty, empty)]) == 1.0
    assert pooled_dice([perfect, overlap_counts(empty, horizontal_wire(20, 0, 60))]) == pytest.approx(2 / 3)


def test_cl_dice_of_half_a_wire_is_the_harmonic_mean_of_its_two_shares() -> None:
    label, half = horizontal_wire(10, 0, 60), horizontal_wire(10, 0, 30)
    # The half's centreline lies in the label; about half of the label's centreline lies in the half.
    assert cl_dice(label, half) == pytest.approx(2 * 1 * 0.5 / 1.5, abs=0.03)


def test_cl_dice_forgives_width_where_dice_does_not() -> None:
    thin, thick = horizontal_wire(10, 5, 60, half_width=0), horizontal_wire(10, 5, 60, half_width=2)
    assert overlap_counts(thin, thick).dice == pytest.approx(2 / 6)
    assert cl_dice(thin, thick) > 0.9


def test_a_gap_costs_cl_dice_as_much_as_its_share_of_the_wire() -> None:
    label = horizontal_wire(10, 0, 60)
    broken = label.copy()
    broken[:, 20:26] = 0
    assert 0.9 < cl_dice(label, broken) < 0.97


@given(masks, masks)
def test_figures_are_symmetric_and_between_0_and_1(label: np.ndarray, prediction: np.ndarray) -> None:
    for measure in (cl_dice, lambda a, b: overlap_counts(a, b).dice):
        assert 0.0 <= measure(label, prediction) <= 1.0
        assert measure(label, prediction) == pytest.approx(measure(prediction, label))


def test_disjoint_wires_score_zero() -> None:
    assert cl_dice(horizontal_wire(5, 5, 40), horizontal_wire(20, 5, 40)) == 0.0


def test_different_shapes_are_refused() -> None:
    for measure in (overlap_counts, cl_dice):
        with pytest.raises(ValueError, match="differ in shape"):
            measure(np.zeros((3, 3)), np.zeros((3, 4)))
