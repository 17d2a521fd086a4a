"""Centrelines and their agreement against scipy's distance transform, by hand, and on properties."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.morphology import skeletonize
from wires import EMPTY, horizontal_wire, masks, smooth_masks

from nnunet_fganet.evaluation.centreline import centreline, cl_dice, line_distances

DIAGONAL = np.hypot(32, 64)
MOVES = (np.flipud, np.fliplr, np.transpose)
EIGHT = np.ones((3, 3))


@given(masks | smooth_masks, st.integers(0, 4), st.integers(0, 4))
def test_a_centreline_is_the_skeleton_of_the_whole_frame_wherever_the_wire_lies(
    mask: np.ndarray, above: int, left: int
) -> None:
    padded = np.pad(mask, ((above, 2), (left, 2)))
    assert np.array_equal(centreline(padded), skeletonize(padded))
    assert np.array_equal(centreline(padded)[above:-2, left:-2], centreline(mask))


@given(masks | smooth_masks)
def test_every_piece_of_a_mask_keeps_one_connected_centreline(mask: np.ndarray) -> None:
    pieces, number = ndimage.label(mask, EIGHT)
    for piece in range(1, number + 1):
        assert ndimage.label(centreline(mask) & (pieces == piece), EIGHT)[1] == 1


def test_cl_dice_of_half_a_wire_is_the_harmonic_mean_of_its_two_shares() -> None:
    label, half = horizontal_wire(10, 0, 60), horizontal_wire(10, 0, 30)
    # The half's centreline lies in the label; about half of the label's centreline lies in the half.
    assert cl_dice(label, half) == pytest.approx(2 * 1 * 0.5 / 1.5, abs=0.03)


def test_cl_dice_of_lines_is_counted_by_hand() -> None:
    label, prediction = horizontal_wire(10, 10, 50, half_width=0), horizontal_wire(10, 20, 60, half_width=0)
    prediction[20, 10:20] = 1
    # 30 of the prediction's 50 pixels lie in the label, 30 of the label's 40 in the prediction.
    assert cl_dice(label, prediction) == pytest.approx(2 * 0.6 * 0.75 / 1.35)


def test_cl_dice_forgives_width_where_dice_does_not() -> None:
    thin, thick = horizontal_wire(10, 5, 60, half_width=0), horizontal_wire(10, 5, 60, half_width=2)
    assert cl_dice(thin, thick) > 0.9


def test_a_gap_costs_cl_dice_as_much_as_its_share_of_the_wire() -> None:
    label = horizontal_wire(10, 0, 60)
    broken = label.copy()
    broken[:, 20:26] = 0
    assert 0.9 < cl_dice(label, broken) < 0.97


@given(masks, masks)
def test_cl_dice_is_symmetric_and_between_0_and_1_and_takes_known_centrelines(
    label: np.ndarray, prediction: np.ndarray
) -> None:
    value = cl_dice(label, prediction)
    assert 0.0 <= value <= 1.0
    assert value == pytest.approx(cl_dice(prediction, label))
    assert value == cl_dice(label, prediction, centreline(label), centreline(prediction))


@given(masks, masks)
def test_distances_are_those_of_a_distance_transform(label: np.ndarray, prediction: np.ndarray) -> None:
    assume(label.any() and prediction.any())
    there = ndimage.distance_transform_edt(~prediction)[label]
    back = ndimage.distance_transform_edt(~label)[prediction]
    distances = line_distances(label, prediction)
    assert distances.assd == pytest.approx((there.sum() + back.sum()) / (len(there) + len(back)))
    assert distances.hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))


@given(masks, masks)
def test_distances_are_symmetric_and_do_not_depend_on_where_or_how_the_lines_lie(
    label: np.ndarray, prediction: np.ndarray
) -> None:
    assume(label.any() and prediction.any())
    distances = pytest.approx(line_distances(label, prediction))
    assert line_distances(prediction, label) == distances
    assert line_distances(np.pad(label, (3, 2)), np.pad(prediction, (3, 2))) == distances
    for move in MOVES:
        assert line_distances(move(label), move(prediction)) == distances


def test_a_parallel_line_is_as_far_as_it_is_moved() -> None:
    distances = line_distances(horizontal_wire(10, 0, 64, 0) != 0, horizontal_wire(14, 0, 64, 0) != 0)
    assert distances == (4.0, 4.0)


def test_the_farthest_twentieth_does_not_count_in_hd95() -> None:
    label = horizontal_wire(10, 0, 64, 0) != 0
    prediction = label.copy()
    prediction[30, 30] = True  # one of 65 pixels, 20 rows away
    assert line_distances(label, prediction).hd95 == 0.0
    assert line_distances(label, prediction).assd == pytest.approx(20 / (64 + 65))


def test_empty_masks_have_the_values_that_are_written_down() -> None:
    wire = horizontal_wire(10, 5, 40)
    empty_line, line = centreline(EMPTY), centreline(wire)
    assert not empty_line.any()
    assert cl_dice(EMPTY, EMPTY) == 1.0
    assert cl_dice(EMPTY, wire) == cl_dice(wire, EMPTY) == 0.0
    assert line_distances(empty_line, empty_line) == (0.0, 0.0)
    for pair in ((empty_line, line), (line, empty_line)):
        assert line_distances(*pair) == pytest.approx((DIAGONAL, DIAGONAL))


def test_disjoint_wires_score_zero() -> None:
    assert cl_dice(horizontal_wire(5, 5, 40), horizontal_wire(20, 5, 40)) == 0.0


def test_different_shapes_are_refused() -> None:
    for measure in (cl_dice, line_distances):
        with pytest.raises(ValueError, match="differ in shape"):
            measure(np.zeros((3, 3)), np.zeros((3, 4)))
