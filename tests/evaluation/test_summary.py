"""Figures of many frames against the same figures of all frames laid side by side; merging; paired differences."""

from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score

from nnunet_fganet.errors import InputError
from nnunet_fganet.evaluation.frame import FrameFigures, measure_frame
from nnunet_fganet.evaluation.summary import METRICS, paired_differences, summarise

SIZE = 48


def wires(seed: int, frames: int = 12) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Name, label, prediction and probability of frames; two frames a sequence, and one frame without a wire."""
    rng = np.random.default_rng(seed)
    for number in range(frames):
        label = np.zeros((SIZE, SIZE), dtype=bool)
        if number != 5:
            label[20 + number : 22 + number, : 30 + number % 4] = True
        probability = np.clip(0.7 * label + rng.normal(0.15, 0.14, label.shape), 0, 1)
        yield f"seq{number // 2}_{number}", label, probability > 0.5, probability.astype(np.float32)


def measured(seed: int, frames: int = 12, spacing: float | None = None) -> list[FrameFigures]:
    return [
        measure_frame(case, label, prediction, None, probability, spacing)
        for case, label, prediction, probability in wires(seed, frames)
    ]


def groups(frames: list[FrameFigures]) -> dict[str, str]:
    return {frame.case: frame.case.split("_")[0] for frame in frames}


def test_pooled_figures_are_those_of_all_pixels_and_means_those_of_the_frames() -> None:
    frames = measured(0)
    summary = summarise({"wire": frames}, groups(frames))
    _, labels, predictions, probabilities = zip(*wires(0), strict=True)
    truth, found = np.ravel(labels), np.ravel(predictions)
    value = {key: figure.value for key, figure in summary.mean.items()}
    assert value["dice"] == pytest.approx(f1_score(truth, found))
    assert value["macro_f1"] == pytest.approx(f1_score(truth, found, average="macro"))
    assert value["oiou"] == pytest.approx(jaccard_score(truth, found))
    assert value["auc"] == pytest.approx(roc_auc_score(truth, np.ravel(probabilities)), abs=1e-4)
    of_frames = [jaccard_score(*map(np.ravel, pair), zero_division=1) for pair in zip(labels, predictions, strict=True)]
    assert value["miou"] == pytest.approx(np.mean(of_frames))
    assert value["dice_mean"] == pytest.approx(np.mean([frame.counts.dice for frame in frames]))
    for key in ("cl_dice", "betti0_error", "betti1_error"):
        assert value[key.replace("_d", "d")] == pytest.approx(np.mean([getattr(frame, key) for frame in frames]))
    assert (summary.frames, summary.groups) == (12, 6)


def test_frames_with_nothing_to_measure_are_not_counted() -> None:
    frames = measured(0)
    nothing = measure_frame("empty_0", np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE)))
    both = [*frames, nothing]
    with_it, without = (summarise({"wire": own}, groups(own)).mean for own in (both, frames))
    for key in ("assd", "hd95", "tip_error", "one_piece"):
        assert with_it[key].value == without[key].value
    assert (with_it["tip_error"].frames, with_it["one_piece"].frames) == (12, 11)  # false alarms are measured
    assert with_it["dice_mean"].value == pytest.approx((12 * without["dice_mean"].value + 1) / 13)
    assert np.isnan(with_it["auc"].value)  # that frame has no probabilities


def test_millimetres_are_pixels_times_the_spacing_where_it_is_known() -> None:
    frames = [*measured(0, spacing=0.3), measure_frame("unknown_0", np.eye(SIZE), np.zeros((SIZE, SIZE)))]
    figures = summarise({"wire": frames}, groups(frames)).mean
    known = [frame.tip_error for frame in frames[:-1]]
    assert figures["tip_error_mm"].value == pytest.approx(0.3 * np.mean(known))
    assert (figures["tip_error_mm"].frames, figures["tip_error"].frames) == (12, 13)


def test_figures_do_not_depend_on_the_order_in_which_parts_are_merged() -> None:
    first, second = measured(0)[:5], measured(0)[5:]
    together, merged = measured(0), second + first
    one, other = (summarise({"wire": frames}, groups(frames)) for frames in (together, merged))
    for metric in METRICS:
        ours, theirs = one.mean[metric.key], other.mean[metric.key]
        assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), nan_ok=True)


def test_intervals_hold_the_value_and_are_the_same_at_every_run() -> None:
    frames = measured(0)
    summary = summarise({"wire": frames}, groups(frames))
    np.testing.assert_equal(asdict(summary), asdict(summarise({"wire": frames}, groups(frames))))
    for key in ("dice", "dice_mean", "miou", "cldice", "auc", "ece", "recall"):
        figure = summary.mean[key]
        assert figure.low <= figure.value <= figure.high
        assert figure.low < figure.high


def test_one_group_has_figures_and_no_intervals() -> None:
    frames = measured(0)
    summary = summarise({"wire": frames}, {frame.case: "all" for frame in frames})
    assert summary.groups == 1
    assert summary.mean["dice"].value > 0
    assert np.isnan(summary.mean["dice"].low)


def test_several_classes_have_figures_of_their_own_and_a_mean() -> None:
    first, second = measured(0), measured(1)
    summary = summarise({"a": first, "b": second}, groups(first))
    alone = summarise({"b": second}, groups(second))
    assert summary.classes["b"]["dice"] == alone.classes["b"]["dice"] == alone.mean["dice"]
    assert summary.mean["dice"].value == pytest.approx(np.mean([c["dice"].value for c in summary.classes.values()]))


def without_probabilities(frames: list[FrameFigures]) -> list[FrameFigures]:
    """For what is not about them: resampling their histograms takes longest."""
    return [replace(frame, histogram=None) for frame in frames]


def absent(frames: list[FrameFigures], found_in: tuple[str, ...] = ()) -> list[FrameFigures]:
    """The same frames without a pixel of the class; in some of them one is found nevertheless."""
    nothing, found = np.zeros((SIZE, SIZE), dtype=bool), np.eye(SIZE, dtype=bool)
    return [
        measure_frame(each.case, nothing, found if each.case in found_in else nothing, None, nothing.astype(np.float32))
        for each in frames
    ]


def test_a_class_without_pixels_has_no_share_in_the_mean_of_what_it_has_no_value_of() -> None:
    frames = measured(0)
    alone = summarise({"guidewire": frames}, groups(frames)).mean
    summary = summarise({"guidewire": frames, "catheter": absent(frames)}, groups(frames))
    for key in ("auc", "one_piece", "hd95", "assd", "tip_error"):
        assert np.isnan(summary.classes["catheter"][key].value) and summary.classes["catheter"][key].frames == 0
        assert summary.mean[key] == alone[key] and not np.isnan(alone[key].value)
    assert summary.mean["dice"].value == pytest.approx((alone["dice"].value + 1) / 2)
    nowhere = without_probabilities(absent(frames))
    both_absent = summarise({"guidewire": nowhere, "catheter": nowhere}, groups(frames))
    assert np.isnan(both_absent.mean["hd95"].value) and both_absent.mean["hd95"].frames == 0


def test_intervals_leave_the_class_out_of_those_resamplings_that_drew_nothing_of_it() -> None:
    frames = without_probabilities(measured(0))
    rare = without_probabilities(absent(frames, found_in=("seq0_0",)))
    diagonal = np.hypot(SIZE, SIZE)
    alone = summarise({"guidewire": frames}, groups(frames)).mean["hd95"]
    mean = summarise({"guidewire": frames, "catheter": rare}, groups(frames)).mean["hd95"]
    assert (mean.value, mean.frames) == (pytest.approx((alone.value + diagonal) / 2), alone.frames)
    assert mean.low < alone.high < mean.value <= mean.high  # a third of the resamplings has the guidewire alone


def test_what_one_group_alone_has_to_measure_has_no_interval_and_so_no_difference_is_found() -> None:
    frames = without_probabilities(measured(0))
    shown = {"seq0_0", "seq0_1"}  # one sequence of six
    rare, rarer = (
        {"wire": [one if one.case in cases else other for one, other in zip(frames, absent(frames), strict=True)]}
        for cases in (shown, {"seq0_0"})
    )
    figures = summarise(rare, groups(frames)).mean
    assert figures["hd95"].frames == 2 and not np.isnan(figures["hd95"].value)
    assert np.isnan(figures["hd95"].low) and np.isnan(figures["hd95"].high)
    assert figures["dice_mean"].low < figures["dice_mean"].high  # 1 where there is nothing to find
    difference = paired_differences(rare, rarer, groups(frames)).mean["hd95"]
    assert not np.isnan(difference.value) and np.isnan(difference.low)


def test_a_difference_is_of_the_frames_that_the_run_with_fewer_has() -> None:
    frames = without_probabilities(measured(0))
    silent, alarms = (
        {"wire": without_probabilities(absent(frames, found))}
        for found in (("seq0_0", "seq1_2"), ("seq0_0", "seq2_4", "seq3_6"))
    )
    for first, second in ((silent, alarms), (alarms, silent)):
        difference = paired_differences(first, second, groups(frames)).mean
        assert (difference["hd95"].frames, difference["dice_mean"].frames) == (2, 12)


def test_a_run_against_itself_differs_by_nothing_and_pairing_narrows_the_interval() -> None:
    frames, other = measured(0, 24), measured(1, 24)
    of_group = groups(frames)
    same = paired_differences({"wire": frames}, {"wire": frames[::-1]}, of_group).mean["dice"]
    assert (same.value, same.low, same.high) == pytest.approx((0, 0, 0))
    pair = paired_differences({"wire": frames}, {"wire": other}, of_group).mean["dice"]
    alone = summarise({"wire": frames}, of_group).mean["dice"]
    assert pair.value == pytest.approx(alone.value - summarise({"wire": other}, of_group).mean["dice"].value)
    assert pair.low <= pair.value <= pair.high
    shifted = [
        measure_frame(case, label, prediction & (np.arange(SIZE) > 2), None, probability)
        for case, label, prediction, probability in wires(0, 24)
    ]
    alike = paired_differences({"wire": frames}, {"wire": shifted}, of_group).mean["dice"]
    assert 0 < alike.low < alike.high
    # All frames lose alike. Drawn independently, two runs differ by more than one of them does by itself.
    assert alike.high - alike.low < 0.5 * (alone.high - alone.low)


def test_a_difference_needs_the_same_frames_and_two_groups() -> None:
    frames = measured(0)
    with pytest.raises(InputError, match="different frames"):
        paired_differences({"wire": frames}, {"wire": frames[1:]}, groups(frames))
    with pytest.raises(InputError, match="one group"):
        paired_differences({"wire": frames}, {"wire": frames}, {frame.case: "all" for frame in frames})
