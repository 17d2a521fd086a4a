"""Tips by hand, on properties, and against the phantom's true tips."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from scipy import ndimage
from wires import EMPTY, drawn, horizontal_wire, masks, smooth_masks

from nnunet_fganet.evaluation.centreline import centreline
from nnunet_fganet.evaluation.tip import find_ends, find_tip, tip_error
from nnunet_fganet.phantom.writing import write_phantom

DIAGONAL = float(np.hypot(32, 64))


def tip_of(mask: np.ndarray) -> tuple[int, ...] | None:
    tip = find_tip(mask)
    return None if tip is None else tuple(tip.tolist())


def test_the_tip_is_the_end_that_does_not_lie_at_the_border() -> None:
    wire = horizontal_wire(16, 0, 40, half_width=0)
    assert tip_of(wire) == (16, 39)
    assert tip_of(wire[:, ::-1]) == (16, 24)
    assert tip_of(wire.T) == (39, 16)


def test_a_spur_is_no_tip_even_in_the_middle_of_the_frame() -> None:
    wire = horizontal_wire(6, 0, 60, half_width=0)
    wire[6:17, 32] = 1
    assert tip_of(wire) == (6, 59)


def test_a_wire_that_turns_back_is_followed_to_its_end() -> None:
    hook = drawn(
        """
        ...........
        ######.....
        .....##....
        ......#....
        ...####....
        ...........
        ...........
        """
    )
    assert tip_of(hook) == (4, 3)


def test_of_several_pieces_the_largest_is_the_wire() -> None:
    wire = horizontal_wire(16, 0, 30, half_width=0)
    wire[20, 35:55] = 1
    assert tip_of(wire) == (16, 29)


def test_a_single_pixel_is_its_own_tip() -> None:
    mask = np.zeros((5, 5), dtype=bool)
    mask[2, 3] = True
    assert tip_of(mask) == (2, 3)


@given(masks | smooth_masks)
def test_the_tip_is_a_pixel_of_the_centreline_of_the_largest_piece(mask: np.ndarray) -> None:
    tip = tip_of(mask)
    if not mask.any():
        assert tip is None
        return
    assert centreline(mask)[tip]
    assert tuple(find_tip(mask, centreline(mask))) == tip
    pieces, number = ndimage.label(mask, np.ones((3, 3)))
    sizes = ndimage.sum_labels(mask, pieces, range(1, number + 1))
    assert sizes[pieces[tip] - 1] == sizes.max()


def test_tip_error_is_the_distance_from_the_tip_to_the_nearer_predicted_end() -> None:
    label = horizontal_wire(16, 0, 40, 0)
    assert tip_error(label, horizontal_wire(12, 0, 43, 0)) == 5.0
    assert tip_error(label, label) == 0.0
    assert tip_error(label, horizontal_wire(16, 0, 30, 0)) == 10.0
    assert tip_error(label, horizontal_wire(16, 35, 40, 0)) == 0.0


def test_ends_that_are_about_as_far_from_the_border_do_not_change_places() -> None:
    label, prediction = horizontal_wire(16, 10, 52, 0), horizontal_wire(16, 12, 54, 0)
    assert (tip_of(label), tip_of(prediction)) == ((16, 51), (16, 12))
    assert tip_error(label, prediction) == 2.0


def test_behind_a_gap_the_larger_piece_ends_early() -> None:
    broken = horizontal_wire(16, 0, 40, 0)
    broken[16, 30] = 0
    assert tip_error(horizontal_wire(16, 0, 40, 0), broken) == 10.0


@given(masks, masks)
def test_tip_error_is_no_longer_than_the_frame_and_nothing_for_a_perfect_prediction(
    label: np.ndarray, prediction: np.ndarray
) -> None:
    assert 0 <= tip_error(label, prediction) <= np.hypot(*label.shape)
    assert tip_error(label, label) == 0.0


def test_empty_masks_have_the_values_that_are_written_down() -> None:
    wire = horizontal_wire(16, 0, 40)
    assert tip_error(EMPTY, EMPTY) == 0.0
    assert tip_error(wire, EMPTY) == tip_error(EMPTY, wire) == DIAGONAL


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        tip_error(np.zeros((3, 3)), np.zeros((3, 4)))


@pytest.mark.slow
def test_in_most_phantom_frames_the_tip_of_the_mask_is_the_true_one(tmp_path: Path) -> None:
    write_phantom(tmp_path / "phantom", sequences=40, frames=2, size=256, seed=3)
    truth = json.loads((tmp_path / "phantom" / "truth.json").read_text())["frames"]
    errors, either_end = [], []
    for name, frame in truth.items():
        mask = cv2.imread(str(tmp_path / "phantom" / frame["split"] / "masks" / name), cv2.IMREAD_UNCHANGED)
        tip = find_tip(mask)
        assert (tip is None) == (frame["tip"] is None)
        if tip is not None:
            to_truth = [np.linalg.norm(point[::-1] - np.array(frame["tip"])) for point in (tip, *find_ends(mask))]
            errors.append(to_truth[0])
            either_end.append(min(to_truth))
    assert len(errors) > 60
    assert max(either_end) < 5
    assert 0.8 < np.mean(np.array(errors) <= 5) < 0.97  # the other end, mostly of wires that leave a catheter
