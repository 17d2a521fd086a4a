"""One class in one frame: the ignore label, and what moving the frame changes."""

import numpy as np
import pytest
from hypothesis import given
from wires import EMPTY, horizontal_wire, masks

from nnunet_fganet.evaluation.frame import measure_frame


def test_the_ignore_label_is_left_out_of_everything() -> None:
    label, ignored = horizontal_wire(10, 0, 60), np.zeros((32, 64), dtype=bool)
    ignored[20:, :] = True
    prediction = label | horizontal_wire(25, 0, 60)  # a false wire where nobody has labelled
    probability = np.where(prediction, 0.9, 0.2)
    ours = measure_frame("a", label, prediction, ~ignored, probability)
    cut = measure_frame("a", label[:20], prediction[:20], None, probability[:20])
    values, expected = ours.values(), cut.values()
    assert values["dice"] == values["cldice"] == values["one_piece"] == 1.0
    for key in ("dice", "macro_f1", "auc", "ece", "cldice", "betti0_error", "assd"):
        assert values[key] == pytest.approx(expected[key])
    assert sum(ours.counts) == 20 * 64


@given(masks, masks)
def test_values_have_stated_ranges(label: np.ndarray, prediction: np.ndarray) -> None:
    values = measure_frame("a", label, prediction, None, prediction * 0.8, 0.2).values()
    for key in ("dice", "iou", "precision", "recall", "macro_f1", "cldice", "one_piece", "ece", "auc"):
        assert np.isnan(values[key]) or 0 <= values[key] <= 1
    for key in ("betti0_error", "betti1_error", "assd", "hd95", "tip_error", "tip_error_mm"):
        assert np.isnan(values[key]) == (not label.any() and not prediction.any() and "betti" not in key)
        assert not values[key] < 0


def test_a_perfect_prediction_has_the_best_value_everywhere() -> None:
    label = horizontal_wire(10, 0, 50)
    values = measure_frame("a", label, label, None, label.astype(np.float32), 0.2).values()
    assert {value for key, value in values.items() if "error" in key or key in ("assd", "hd95", "ece")} == {0.0}
    assert {
        values[key] for key in ("dice", "iou", "precision", "recall", "macro_f1", "auc", "cldice", "one_piece")
    } == {1.0}


def test_a_frame_without_wire_has_no_distances_unless_there_is_a_false_one() -> None:
    silent, alarm = measure_frame("a", EMPTY, EMPTY), measure_frame("a", EMPTY, horizontal_wire(10, 0, 50))
    assert silent.assd is silent.hd95 is silent.tip_error is silent.one_piece is alarm.one_piece is None
    assert alarm.assd == alarm.hd95 == alarm.tip_error == pytest.approx(np.hypot(32, 64))
    assert (alarm.betti0_error, silent.betti0_error, silent.cl_dice, alarm.cl_dice) == (1, 0, 1.0, 0.0)


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        measure_frame("a", EMPTY, EMPTY[:-1])
