"""New frames -> files that ``nnUNetv2_predict`` reads, cleaned as the converter cleans training frames."""

import csv
from functools import partial
from pathlib import Path

from nnunet_fganet.errors import InputError
from nnunet_fganet.files import check_replaceable, written_beside
from nnunet_fganet.frames.collimation import clean_border
from nnunet_fganet.frames.reading import IMAGE_ENDINGS, is_image, read_frame
from nnunet_fganet.frames.report import REPORT_FILE, describe_collimation, describe_skipped, write_collimation_report
from nnunet_fganet.frames.workers import map_with_progress
from nnunet_fganet.frames.writing import write_png


def prepare_frames(source: Path, target: Path, workers: int, force: bool) -> str:
    """Write ``<name>_0000.png`` (grey, depth kept) into ``target`` for each frame, and ``collimation.csv``.

    Parameters
    ----------
    source
        An image file, or a folder whose image files (not those of its subfolders) are prepared.
    target
        Folder to make.
    workers
        Threads.
    force
        Replace an earlier result: a folder that holds the frames which its ``collimation.csv`` lists, and nothing
        else.

    Returns
    -------
    report
        Sentences on what was set to zero, and on files that were skipped.

    Raises
    ------
    InputError
        No frames, unreadable frames, two frames of one name, or ``target`` is in the way: it is no empty
        folder and no earlier result, or it holds ``source``.
    """
    frames = _find_frames(source)
    what = f"earlier result of fganet prepare-frames ({REPORT_FILE} and the frames that it lists, nothing else)"
    check_replaceable(target, force, _is_prepared, what, [source])
    names = [frame.stem for frame in frames]
    with written_beside(target, overwrite=True) as folder:
        folder.mkdir()
        removed = map_with_progress(partial(_prepare, folder=folder), frames, workers, "prepare")
        write_collimation_report(folder, names, removed)
    beside = source.iterdir() if source.is_dir() else ()
    skipped = [path for path in beside if path.is_file() and not is_image(path)]
    return "\n".join([describe_collimation(removed), *describe_skipped(skipped)])


def _prepare(path: Path, folder: Path) -> float:
    frame, window = clean_border(read_frame(path))
    write_png(folder / f"{path.stem}_0000.png", frame)
    return window.removed


def _find_frames(source: Path) -> list[Path]:
    if not source.exists():
        raise InputError(f"{source} does not exist: give an image file or a folder of image files.")
    frames = [source] if source.is_file() else sorted(path for path in source.iterdir() if is_image(path))
    if not frames:
        raise InputError(f"{source} holds no image files ({', '.join(IMAGE_ENDINGS)}): give the folder that does.")
    by_name: dict[str, Path] = {}
    for frame in frames:
        if (other := by_name.setdefault(frame.stem, frame)) is not frame:
            raise InputError(f"{other} and {frame.name} are two frames of one name: rename one of them.")
    return frames


def _is_prepared(folder: Path) -> bool:
    """Whether a folder holds what :func:`prepare_frames` wrote, and nothing else.

    The names of the frames alone do not tell: nnU-Net's own folders of images have names like them.
    """
    try:
        with (folder / REPORT_FILE).open(newline="", encoding="utf-8") as file:
            listed = {f"{row['case']}_0000.png" for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError):
        return False
    return {path.name for path in folder.iterdir()} == listed | {REPORT_FILE}
