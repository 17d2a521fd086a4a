"""Figures of counted pixels against scikit-learn, by hand, and on properties that any frame must have."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score
from wires import EMPTY, horizontal_wire, masks

from nnunet_fganet.evaluation.overlap import OverlapCounts, overlap_counts, overlap_figures, pooled_dice


def figures(label: np.ndarray, prediction: np.ndarray, counted: np.ndarray | None = None) -> dict[str, float]:
    counts = np.array(overlap_counts(label, prediction, counted))
    return {key: float(value) for key, value in overlap_figures(counts).items()}


@given(masks, masks)
def test_figures_are_those_of_scikit_learn(label: np.ndarray, prediction: np.ndarray) -> None:
    assume(label.any() and prediction.any())
    truth, found = label.ravel(), prediction.ravel()
    ours = figures(label, prediction)
    assert ours["dice"] == pytest.approx(f1_score(truth, found))
    assert ours["iou"] == pytest.approx(jaccard_score(truth, found))
    assert ours["precision"] == pytest.approx(precision_score(truth, found))
    assert ours["recall"] == pytest.approx(recall_score(truth, found))
    macro = f1_score(truth, found, average="macro", labels=[False, True], zero_division=1.0)
    assert ours["macro_f1"] == pytest.approx(macro)


@given(st.lists(st.tuples(masks, masks), max_size=4))
def test_pooled_dice_is_the_dice_of_all_frames_laid_side_by_side(frames: list[tuple[np.ndarray, np.ndarray]]) -> None:
    pooled = pooled_dice(overlap_counts(label, prediction) for label, prediction in frames)
    together = [np.concatenate(arrays) for arrays in zip(*frames, strict=True)] if frames else [np.zeros(1)] * 2
    assert pooled == pytest.approx(overlap_counts(*together).dice)


@given(masks, masks, masks)
def test_pixels_that_do_not_count_change_nothing(
    label: np.ndarray, prediction: np.ndarray, counted: np.ndarray
) -> None:
    counts = overlap_counts(label, prediction, counted)
    assert counts == overlap_counts(label[counted], prediction[counted])
    assert sum(counts) == counted.sum()


@given(masks, masks)
def test_swapping_label_and_prediction_swaps_precision_and_recall_only(
    label: np.ndarray, prediction: np.ndarray
) -> None:
    one, other = figures(label, prediction), figures(prediction, label)
    assert (one["precision"], one["recall"]) == (other["recall"], other["precision"])
    assert all(one[key] == other[key] for key in ("dice", "iou", "macro_f1"))
    assert all(0 <= value <= 1 for value in one.values())


@given(masks, masks, st.sampled_from([np.flipud, np.fliplr, np.transpose, lambda mask: np.roll(mask, (3, 5), (0, 1))]))
def test_moving_both_masks_alike_changes_nothing(label: np.ndarray, prediction: np.ndarray, move) -> None:
    assert overlap_counts(move(label), move(prediction)) == overlap_counts(label, prediction)


@pytest.mark.parametrize("value", [1, 7, 255, True])
def test_any_non_zero_value_is_wire(value: int) -> None:
    label = horizontal_wire(10, 5, 40)
    prediction = np.where(label, value, 0).astype(np.uint8)
    wire = int(label.sum())
    assert overlap_counts(label, prediction) == OverlapCounts(wire, 0, 0, label.size - wire)


def test_empty_frames_have_the_values_that_are_written_down() -> None:
    wire = horizontal_wire(10, 5, 40)
    for key in ("dice", "iou", "precision", "recall"):
        assert figures(EMPTY, EMPTY)[key] == 1.0
        assert figures(EMPTY, wire)[key] == figures(wire, EMPTY)[key] == 0.0
    background = 2 * (32 * 64 - 105) / (2 * (32 * 64 - 105) + 105)  # F1 of the background, 105 pixels of wire
    assert figures(EMPTY, EMPTY)["macro_f1"] == 1.0
    assert figures(EMPTY, wire)["macro_f1"] == figures(wire, EMPTY)["macro_f1"] == pytest.approx(background / 2)
    assert figures(np.ones((3, 3)), np.ones((3, 3)))["macro_f1"] == 1.0
    assert pooled_dice([]) == pooled_dice([overlap_counts(EMPTY, EMPTY)]) == 1.0


def test_an_empty_frame_adds_its_false_positives_to_the_pool_only() -> None:
    wire = horizontal_wire(10, 0, 60)
    perfect = overlap_counts(wire, wire)
    assert pooled_dice([perfect, overlap_counts(EMPTY, EMPTY)]) == 1.0
    assert pooled_dice([perfect, overlap_counts(EMPTY, horizontal_wire(20, 0, 60))]) == pytest.approx(2 / 3)


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        overlap_counts(np.zeros((3, 3)), np.zeros((3, 4)))
