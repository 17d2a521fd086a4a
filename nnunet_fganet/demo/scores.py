"""What the demo measures: agreement with the labels of unseen frames, and time a frame."""

import contextlib
import csv
import io
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from nnunet_fganet.errors import InputError
from nnunet_fganet.evaluation.centreline import cl_dice
from nnunet_fganet.evaluation.overlap import OverlapCounts, overlap_counts, pooled_dice
from nnunet_fganet.inference.trained import load_predictor

WARM_UP = 3


@dataclass(frozen=True)
class FrameScore:
    """Agreement of one predicted frame with its label."""

    case: str
    counts: OverlapCounts
    cl_dice: float


@dataclass(frozen=True)
class Latency:
    """Milliseconds a frame, medians, with the network loaded and nothing mirrored."""

    network_ms: float
    frame_to_mask_ms: float


def read_mask(path: Path) -> npt.NDArray[np.uint8]:
    """Read a single-channel PNG, shape (height, width).

    Raises
    ------
    InputError
        The file is missing or not an image.
    """
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if mask is None or mask.ndim != 2:
        raise InputError(f"{path} is not a mask that can be read: run make clean, then make demo again.")
    return mask.astype(np.uint8, copy=False)


def score_frames(label_folder: Path, prediction_folder: Path) -> list[FrameScore]:
    """Score every labelled frame, sorted by name; a frame without a prediction is an error."""
    scores = []
    for label_file in sorted(label_folder.glob("*.png")):
        label, prediction = read_mask(label_file), read_mask(prediction_folder / label_file.name)
        scores.append(FrameScore(label_file.stem, overlap_counts(label, prediction), cl_dice(label, prediction)))
    return scores


def measure_latency(model_folder: Path, frames: Sequence[Path]) -> Latency:
    """Time the trained network in this process on the CPU, one frame after the other.

    Parameters
    ----------
    model_folder
        nnU-Net's results folder of the training; fold 0 is loaded.
    frames
        Image files; the first three are for warming up and are timed again.

    Returns
    -------
    Latency
        ``network_ms``: the forward pass alone, on a preprocessed frame. ``frame_to_mask_ms``: from
        the frame in memory to its mask, nnU-Net's preprocessing and tiling included. Reading the
        file counts in neither.
    """
    predictor = load_predictor(model_folder)
    reader = predictor.plans_manager.image_reader_writer_class()
    network_times, mask_times = [], []
    for frame in [*frames[:WARM_UP], *frames]:
        image, properties = reader.read_images([str(frame)])
        patch = torch.from_numpy(image).float().transpose(0, 1)  # (channels, 1, H, W) -> (1, channels, H, W)
        with torch.inference_mode():
            network_times.append(_milliseconds(partial(predictor.network, patch)))
        with contextlib.redirect_stdout(io.StringIO()):
            mask_times.append(_milliseconds(partial(predictor.predict_single_npy_array, image, properties)))
    return Latency(statistics.median(network_times[WARM_UP:]), statistics.median(mask_times[WARM_UP:]))


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def write_scores(path: Path, scores: Sequence[FrameScore]) -> None:
    """Write one line a frame: case, Dice, clDice and the counted pixels."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["case", "dice", "cl_dice", *OverlapCounts._fields])
        table.writerows(
            [score.case, f"{score.counts.dice:.4f}", f"{score.cl_dice:.4f}", *score.counts] for score in scores
        )


def table_of(scores: Sequence[FrameScore], latency: Latency, machine: str) -> str:
    """The demo's table in Markdown."""
    wires = [score for score in scores if score.counts.true_positive + score.counts.false_negative]
    rows = [
        ("Dice, pooled over all pixels", f"{pooled_dice(score.counts for score in scores):.3f}"),
        ("Dice, mean over frames", f"{_mean([score.counts.dice for score in scores]):.3f}"),
        ("Dice, mean over frames with a wire", f"{_mean([score.counts.dice for score in wires]):.3f}"),
        ("clDice, mean over frames", f"{_mean([score.cl_dice for score in scores]):.3f}"),
        ("clDice, mean over frames with a wire", f"{_mean([score.cl_dice for score in wires]):.3f}"),
        ("Latency: network alone", f"{latency.network_ms:.0f} ms a frame"),
        ("Latency: frame to mask", f"{latency.frame_to_mask_ms:.0f} ms a frame"),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"| {'Unseen phantom frames':<{width}} | {'FGA-Net':<14} |", f"|{'-' * (width + 2)}|{'-' * 16}|"]
    lines += [f"| {name:<{width}} | {value:<14} |" for name, value in rows]
    notes = (
        f"{len(scores)} frames of sequences that the training never saw, {len(wires)} of them with a wire. A frame\n"
        "without a wire scores 1 where nothing is found in it and 0 otherwise. Latency: medians on the CPU\n"
        f"({machine}), no test-time mirroring."
    )
    return "\n".join(lines) + "\n\n" + notes + "\n"


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else float("nan")
