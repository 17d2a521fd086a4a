"""Folds that keep the frames of a patient (where unknown: of a sequence) together.

Consecutive frames differ little: nnU-Net's own random split by frame would validate on what was trained on.
"""

from collections.abc import Sequence

from dataset_conversion.frame import Frame
from nnunet_fganet.errors import InputError

FOLDS = 5  # nnU-Net trains and predicts with folds 0 to 4
_PAPER_GROUPS = 5  # the paper validates on 5 of its 53 training sequences

Fold = dict[str, list[str]]


def check_leak(frames: Sequence[Frame]) -> None:
    """Raise InputError where a patient (where unknown: a sequence) is in training and in test."""
    trained = {frame.group: frame for frame in frames if frame.split == "train"}
    for frame in frames:
        if frame.split == "test" and frame.group in trained:
            what = "patient" if frame.patient else "sequence"
            raise InputError(
                f"{frame.source} (test) and {trained[frame.group].source} (train) belong to one {what}, "
                f"{frame.group}: keep it in one of the two, or correct --sequence-pattern, --groups or --manifest."
            )


def make_folds(frames: Sequence[Frame]) -> list[Fold]:
    """Make folds 0-4 (a fifth of the frames each, as even as whole groups allow) and 5, a split like the paper's.

    Parameters
    ----------
    frames
        All of the data set; those to train are divided.

    Returns
    -------
    folds
        Six of ``{"train": cases, "val": cases}``. Fold 5 validates on up to five groups (at most a fifth of
        them) spread over their sorted names.

    Raises
    ------
    InputError
        There are fewer groups than folds.
    """
    from sklearn.model_selection import GroupKFold  # takes a second, for which who wants FOLDS alone need not wait

    training = [frame for frame in frames if frame.split == "train"]
    cases = [frame.case for frame in training]
    groups = [frame.group for frame in training]
    names = sorted(set(groups))
    if len(names) < FOLDS:
        kind = "patients" if training and training[0].patient else "sequences"
        raise InputError(
            f"{FOLDS} folds need frames of at least {FOLDS} {kind}, and the {len(training)} to train on "
            f"({', '.join(cases[:3])}{', ...' if len(cases) > 3 else ''}) are of {len(names)} ({', '.join(names)}): "
            "add data, or say which frames belong together by --sequence-pattern, --groups or --manifest (else folders "
            "say so, or file names up to their last number)."
        )
    folds = [
        {"train": [cases[i] for i in train], "val": [cases[i] for i in validation]}
        for train, validation in GroupKFold(FOLDS).split(cases, groups=groups)
    ]
    count = min(_PAPER_GROUPS, len(names) // FOLDS)
    chosen = {names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count)}
    paper: Fold = {"train": [], "val": []}
    for case, group in zip(cases, groups, strict=True):
        paper["val" if group in chosen else "train"].append(case)
    return [*folds, paper]
