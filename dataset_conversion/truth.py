"""Times of a phantom's frames, from the ``truth.json`` that ``fganet phantom`` writes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from dataset_conversion.frame import Frame
from nnunet_fganet.errors import InputError
from nnunet_fganet.frames.reading import read_bytes
from nnunet_fganet.phantom.writing import TRUTH_FILE


def assign_times(frames: Sequence[Frame], source: Path) -> list[Frame]:
    """Fill in ``time_s`` where ``truth.json`` knows it; frames stay as they are where there is no such file.

    Raises
    ------
    InputError
        ``truth.json`` is damaged.
    """
    path = source / TRUTH_FILE
    if not path.is_file():
        return list(frames)
    try:
        truth = json.loads(read_bytes(path))["frames"]
        times = {name: str(entry["time_s"]) for name, entry in truth.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"{path} is not as fganet phantom writes it: restore it, or take it out.") from None
    return [replace(frame, time_s=frame.time_s or times.get(PurePosixPath(frame.source).name, "")) for frame in frames]
