"""A folder of frames and masks -> an nnU-Net data set."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dataset_conversion.frame import Frame
from dataset_conversion.manifest import read_manifest
from dataset_conversion.sequences import assign_cases, assign_patients, assign_sequences
from dataset_conversion.sources import check_source, find_frames, skipped_files
from dataset_conversion.splits import check_leak, make_folds
from dataset_conversion.target import describe_stale, find_target
from dataset_conversion.truth import assign_times
from dataset_conversion.writing import (
    Written,
    make_folders,
    write_dataset_json,
    write_folds,
    write_frame,
    write_frames_csv,
)
from nnunet_fganet.files import check_outside, written_beside
from nnunet_fganet.frames.report import describe_collimation, describe_skipped, write_collimation_report
from nnunet_fganet.frames.workers import default_workers, map_with_progress

_FEW_FRAMES = 10
_MOST = 0.9
_HALF = 0.5  # a wire that covers more of the frame is background drawn as wire


@dataclass(frozen=True)
class ConversionOptions:
    """What ``fganet convert`` can be told; ``docs/data.md`` explains each.

    Attributes
    ----------
    source
        Folder of frames and masks.
    out
        Folder to make the data set in; None for ``$nnUNet_raw``.
    dataset_id, name
        As nnU-Net shall know the data set.
    labels
        ``region`` (one sigmoid output) or ``plain`` (softmax over background and guidewire).
    sequence_pattern
        Regular expression that finds the sequence in a frame's file name.
    groups
        CSV of ``image,group``: patients.
    manifest
        CSV that lists the frames, instead of searching ``source``.
    threshold
        Mask values from here on are wire; None where masks have two values.
    line_width
        Stroke of Labelme's lines in px.
    workers
        Threads.
    force
        Replace an existing data set of this id and name.
    """

    source: Path
    out: Path | None = None
    dataset_id: int = 501
    name: str = "TCGSeg"
    labels: str = "region"
    sequence_pattern: str | None = None
    groups: Path | None = None
    manifest: Path | None = None
    threshold: int | None = None
    line_width: int = 3
    workers: int = default_workers()
    force: bool = False


@dataclass(frozen=True)
class Conversion:
    """The data set's folder, and sentences on what was done."""

    folder: Path
    report: list[str]


def convert(options: ConversionOptions) -> Conversion:
    """Make the data set, as a whole or not at all.

    Raises
    ------
    InputError
        Something given cannot be used; the message names it.
    OSError
        Writing failed.
    """
    check_source(options.source, is_listed=options.manifest is not None)
    sources = [path for path in (options.source, options.groups, options.manifest) if path is not None]
    target = find_target(options.out, options.dataset_id, options.name, options.force, sources)
    replaced = target.exists()
    frames = describe_frames(options)
    check_outside(target, (path for frame in frames for path in (frame.image, frame.mask)))
    check_leak(frames)
    folds = make_folds(frames)
    with written_beside(target, overwrite=replaced) as folder:
        make_folders(folder)
        write = partial(
            write_frame,
            folder=folder,
            source=options.source,
            threshold=options.threshold,
            line_width=options.line_width,
        )
        written = map_with_progress(write, frames, options.workers, "convert")
        training_cases = sum(frame.split == "train" for frame in frames)
        write_dataset_json(folder, options.name, options.labels, training_cases)
        write_folds(folder, folds)
        write_frames_csv(folder, frames, written)
        write_collimation_report(folder, [frame.case for frame in frames], [result.removed for result in written])
    report = _report(frames, written)
    if options.manifest is None:
        report += describe_skipped(skipped_files(frames))
    return Conversion(target, report + describe_stale(target) if replaced else report)


def describe_frames(options: ConversionOptions) -> list[Frame]:
    """Find all frames and what is known of them: sequence, patient, time, case."""
    source = options.source
    frames = find_frames(source) if options.manifest is None else read_manifest(options.manifest, source)
    frames = assign_sequences(frames, options.sequence_pattern)
    frames = assign_patients(frames, options.groups)
    return assign_cases(assign_times(frames, source))


def _report(frames: Sequence[Frame], written: Sequence[Written]) -> list[str]:
    """Sentences on what was converted, and on what looks wrong."""
    lines = []
    for split in ("train", "test"):
        chosen = [frame for frame in frames if frame.split == split]
        if chosen:
            kind = "patients" if chosen[0].patient else "sequences"
            lines.append(f"{split}: {len(chosen)} frames of {len({frame.group for frame in chosen})} {kind}")
    lines += _describe_lone_frames([frame for frame in frames if frame.split == "train"])
    lines.append(describe_collimation([result.removed for result in written]))
    checks = {
        "have no wire": [result.wire == 0 for result in written],
        "have a wire on more than half of the frame (is background drawn as wire?)": [
            result.wire > _HALF for result in written
        ],
        "have wire on pixels that were set to zero as border": [result.wire_outside > 0 for result in written],
    }
    for what, flags in checks.items():
        cases = [frame.case for frame, flag in zip(frames, flags, strict=True) if flag]
        if cases:
            lines.append(
                f"Labels that {what}: {len(cases)} ({', '.join(cases[:3])}{', ...' if len(cases) > 3 else ''})"
            )
    return lines


def _describe_lone_frames(training: Sequence[Frame]) -> list[str]:
    """Say so where sequences were hardly told apart: folds are random by frame then."""
    sizes = Counter(frame.group for frame in training)
    alone = sum(sizes[frame.group] == 1 for frame in training)
    if len(training) <= _FEW_FRAMES or training[0].patient or alone <= _MOST * len(training):
        return []
    return [
        f"{alone} of {len(training)} frames for training are each a sequence of their own, so that folds may divide "
        "frames of one run: give --sequence-pattern if file names tell the run, or patients by --groups."
    ]
