"""Figures of many frames, with intervals, and the paired differences of two runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_fganet.errors import InputError
from nnunet_fganet.evaluation.bootstrap import FEWEST_GROUPS, percentile_interval, resampling_weights
from nnunet_fganet.evaluation.frame import FrameFigures
from nnunet_fganet.evaluation.masks import Numbers
from nnunet_fganet.evaluation.overlap import overlap_figures
from nnunet_fganet.evaluation.probability import auc, calibration_error

Frames = Sequence[FrameFigures]


@dataclass(frozen=True)
class Metric:
    """A figure of many frames: what tables call it, and which end is good."""

    key: str
    name: str
    higher_is_better: bool


METRICS = (
    Metric("dice", "Dice, pooled", True),
    Metric("dice_mean", "Dice, mean", True),
    Metric("macro_f1", "Macro-F1", True),
    Metric("oiou", "OIoU (IoU, pooled)", True),
    Metric("miou", "MIoU (IoU, mean)", True),
    Metric("auc", "AUC", True),
    Metric("precision", "Precision", True),
    Metric("recall", "Recall", True),
    Metric("cldice", "clDice", True),
    Metric("betti0_error", "Betti-0 error", False),
    Metric("betti1_error", "Betti-1 error", False),
    Metric("assd", "ASSD, px", False),
    Metric("hd95", "HD95, px", False),
    Metric("tip_error", "Tip error, px", False),
    Metric("tip_error_mm", "Tip error, mm", False),
    Metric("one_piece", "In one piece", True),
    Metric("ece", "ECE", False),
)
# Means over frames, and the figure of a frame that each of them averages; all others are pooled.
_MEANS = {
    "dice_mean": "dice",
    "miou": "iou",
    **{
        key: key
        for key in ("cldice", "betti0_error", "betti1_error", "assd", "hd95", "tip_error", "tip_error_mm", "one_piece")
    },
}
_ROWS_AT_ONCE = 200  # of resampled histograms, which would fill the memory all together


@dataclass(frozen=True)
class Figure:
    """One figure of many frames.

    Attributes
    ----------
    value, low, high
        The figure and its 95 % interval; not a number where there is none.
    frames
        Number of frames that it is of: those in which there is something to measure; 0 without a value. Of a
        difference, the smaller number of the two runs.
    """

    value: float
    low: float
    high: float
    frames: int


@dataclass(frozen=True)
class Summary:
    """Figures by key, of each class and of their mean over the classes that have a value (for one class the same)."""

    frames: int
    groups: int
    mean: dict[str, Figure]
    classes: dict[str, dict[str, Figure]]


def summarise(measured: Mapping[str, Frames], groups: Mapping[str, str], seed: int = 0) -> Summary:
    """Figures with intervals that resample groups.

    Parameters
    ----------
    measured
        Frames by class; every class has the same frames.
    groups
        Sequence (or patient) by the name of the frame.
    seed
        Of the resampling.

    Returns
    -------
    summary
        An interval is not a number where fewer than two groups have a value by themselves.
    """
    names, indices = _group_indices(measured, groups)
    resampled = {name: _resample(frames, indices, len(names), seed) for name, frames in measured.items()}
    counted = {name: _frames_that_count(frames) for name, frames in measured.items()}
    return _summary(_number_of_frames(measured), len(names), resampled, counted)


def paired_differences(
    first: Mapping[str, Frames], second: Mapping[str, Frames], groups: Mapping[str, str], seed: int = 0
) -> Summary:
    """``first`` minus ``second``, with intervals that resample the same groups in both.

    Parameters
    ----------
    first, second
        Frames by class of two runs over the same frames and classes.
    groups
        Sequence (or patient) by the name of the frame.
    seed
        Of the resampling.

    Raises
    ------
    InputError
        The runs have different frames or classes, or there are fewer than two groups.
    """
    if {name: {frame.case for frame in frames} for name, frames in first.items()} != {
        name: {frame.case for frame in frames} for name, frames in second.items()
    }:
        raise InputError("The two runs have different frames or classes: only runs over the same can be compared.")
    names, indices = _group_indices(first, groups)
    check_groups(names)
    resampled, counted = {}, {}
    for name in first:
        ours, theirs = (_resample(run[name], indices, len(names), seed) for run in (first, second))
        resampled[name] = {key: ours[key] - theirs[key] for key in ours}
        of_ours, of_theirs = (_frames_that_count(run[name]) for run in (first, second))
        counted[name] = {key: min(number, of_theirs[key]) for key, number in of_ours.items()}
    return _summary(_number_of_frames(first), len(names), resampled, counted)


def check_groups(names: Collection[str]) -> None:
    """Raise InputError where there are too few groups for an interval."""
    if len(set(names)) < FEWEST_GROUPS:
        raise InputError(
            f"All frames are of one group ({next(iter(names))}), and the interval of a difference needs at least "
            f"{FEWEST_GROUPS}: evaluate without the other run, or over more groups."
        )


def _group_indices(measured: Mapping[str, Frames], groups: Mapping[str, str]) -> tuple[list[str], dict[str, int]]:
    """Sorted names of the groups, and the index of its group by the name of a frame."""
    of_case = {frame.case: groups[frame.case] for frames in measured.values() for frame in frames}
    names = sorted(set(of_case.values()))
    index = {name: number for number, name in enumerate(names)}
    return names, {case: index[group] for case, group in of_case.items()}


def _resample(frames: Frames, indices: Mapping[str, int], groups: int, seed: int) -> dict[str, Numbers]:
    """Every metric of the data as they are, of each resampling, of each group alone: (1 + resamplings + groups,)."""
    weights = np.concatenate((resampling_weights(groups, seed=seed), np.eye(groups))).astype(np.float64)
    rows = [indices[frame.case] for frame in frames]
    values = [frame.values() for frame in frames]

    def resummed(of_frames: npt.ArrayLike) -> Numbers:
        """Sum per group, then over the groups that each resampling drew."""
        numbers = np.asarray(of_frames, dtype=np.float64)
        per_group = np.zeros((groups, *numbers.shape[1:]))
        np.add.at(per_group, rows, numbers)
        return weights @ per_group

    pooled = overlap_figures(resummed([frame.counts for frame in frames]))
    figures = {"oiou" if key == "iou" else key: figure for key, figure in pooled.items()}
    for metric, key in _MEANS.items():
        column = np.array([of_frame[key] for of_frame in values])
        with np.errstate(invalid="ignore"):
            figures[metric] = resummed(np.nan_to_num(column)) / resummed(~np.isnan(column))
    figures |= _resample_probabilities(frames, rows, weights)
    return figures


def _resample_probabilities(frames: Frames, rows: Sequence[int], weights: Numbers) -> dict[str, Numbers]:
    """AUC and calibration error of each row of weights; not a number where a frame has no probabilities."""
    histograms = [frame.histogram for frame in frames if frame.histogram is not None]
    if len(histograms) < len(frames) or not frames:
        return dict.fromkeys(("auc", "ece"), np.full(len(weights), np.nan))
    ranks, calibration = (
        np.zeros((weights.shape[1], *array.shape)) for array in (histograms[0].ranks, histograms[0].calibration)
    )
    for row, histogram in zip(rows, histograms, strict=True):
        ranks[row] += histogram.ranks
        calibration[row] += histogram.calibration
    parts = [weights[start : start + _ROWS_AT_ONCE] for start in range(0, len(weights), _ROWS_AT_ONCE)]
    return {
        "auc": np.concatenate([auc(np.tensordot(part, ranks, 1)) for part in parts]),
        "ece": np.concatenate([calibration_error(np.tensordot(part, calibration, 1)) for part in parts]),
    }


def _number_of_frames(measured: Mapping[str, Frames]) -> int:
    return len(next(iter(measured.values())))


def _summary(
    frames: int,
    groups: int,
    resampled: Mapping[str, Mapping[str, Numbers]],
    counted: Mapping[str, Mapping[str, int]],
) -> Summary:
    classes = {
        name: {metric.key: _figure(figures[metric.key], groups, counted[name][metric.key]) for metric in METRICS}
        for name, figures in resampled.items()
    }
    mean = {
        metric.key: _figure(
            _mean_of_known(np.stack([figures[metric.key] for figures in resampled.values()])),
            groups,
            max(figures[metric.key].frames for figures in classes.values()),
        )
        for metric in METRICS
    }
    return Summary(frames, groups, mean, classes)


def _mean_of_known(figures: Numbers) -> Numbers:
    """Mean over the first axis of what is a number; not a number where nothing is."""
    known = ~np.isnan(figures)
    with np.errstate(invalid="ignore"):
        return np.where(known, figures, 0).sum(axis=0) / known.sum(axis=0)


def _frames_that_count(frames: Frames) -> dict[str, int]:
    values = [frame.values() for frame in frames]
    number = {
        metric: int(np.count_nonzero([not np.isnan(of_frame[key]) for of_frame in values]))
        for metric, key in _MEANS.items()
    }
    with_probabilities = sum(frame.histogram is not None for frame in frames)
    number |= dict.fromkeys(("auc", "ece"), with_probabilities)
    return {metric.key: number.get(metric.key, len(frames)) for metric in METRICS}


def _figure(resampled: Numbers, groups: int, frames: int) -> Figure:
    """From what :func:`_resample` returns of one metric.

    Where one group alone has a value by itself, nothing tells how others would differ: no interval.
    """
    value, alone = float(resampled[0]), resampled[-groups:]
    low, high = percentile_interval(resampled[1:-groups])
    if np.count_nonzero(~np.isnan(alone)) < FEWEST_GROUPS:
        low = high = float("nan")
    return Figure(value, low, high, 0 if np.isnan(value) else frames)
