"""Tips by hand, on properties, and against the phantom's true tips."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from scipy import ndimage
from wires import EMPTY, drawn, horizontal_wire, masks, smooth_masks

from nnunet_fganet.evaluation.centreline import centreline
from nnunet_fganet.evaluation.tip import find_tip, tip_error
from nnunet_fganet.phantom.writing import write_phantom

DIAGONAL = float(np.hypot(32, 64))


def test_the_tip_is_the_end_that_does_not_lie_at_the_border() -> None:
    wire = horizontal_wire(16, 0, 40, half_width=0)
    assert find_tip(wire) == (16, 39)
    assert find_tip(wire[:, ::-1]) == (16, 24)
    assert find_tip(wire.T) == (39, 16)


def test_a_spur_is_no_tip_even_in_the_middle_of_the_frame() -> None:
    wire = horizontal_wire(6, 0, 60, half_width=0)
    wire[6:17, 32] = 1
    assert find_tip(wire) == (6, 59)


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
    assert find_tip(hook) == (4, 3)


def test_of_several_pieces_the_largest_is_the_wire() -> None:
    wire = horizontal_wire(16, 0, 30, half_width=0)
    wire[20, 35:55] = 1
    assert find_tip(wire) == (16, 29)


def test_a_single_pixel_is_its_own_tip() -> None:
    mask = np.zeros((5, 5), dtype=bool)
    mask[2, 3] = True
    assert find_tip(mask) == (2, 3)


@given(masks | smooth_masks)
def test_the_tip_is_a_pixel_of_the_centreline_of_the_largest_piece(mask: np.ndarray) -> None:
    tip = find_tip(mask)
    if not mask.any():
        assert tip is None
        return
    assert centreline(mask)[tip]
    assert find_tip(mask, centreline(mask)) == tip
    pieces, number = ndimage.label(mask, np.ones((3, 3)))
    sizes = ndimage.sum_labels(mask, pieces, range(1, number + 1))
    assert sizes[pieces[tip] - 1] == sizes.max()


def test_tip_error_is_the_distance_of_the_tips() -> None:
    assert tip_error(horizontal_wire(16, 0, 40, 0), horizontal_wire(12, 0, 43, 0)) == 5.0
    assert tip_error(horizontal_wire(16, 0, 40), horizontal_wire(16, 0, 40)) == 0.0


@given(masks, masks)
def test_tip_error_is_symmetric_and_no_longer_than_the_frame(label: np.ndarray, prediction: np.ndarray) -> None:
    assume(label.any() and prediction.any())
    error = tip_error(label, prediction)
    assert error == tip_error(prediction, label)
    assert 0 <= error <= np.hypot(*label.shape)


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
    errors = []
    for name, frame in truth.items():
        mask = cv2.imread(str(tmp_path / "phantom" / frame["split"] / "masks" / name), cv2.IMREAD_UNCHANGED)
        tip = find_tip(mask)
        assert (tip is None) == (frame["tip"] is None)
        if tip is not None:
            errors.append(np.hypot(tip[1] - frame["tip"][0], tip[0] - frame["tip"][1]))
    assert len(errors) > 60
    assert np.mean(np.array(errors) <= 5) > 0.8
