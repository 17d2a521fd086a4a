"""New frames -> files that ``nnUNetv2_predict`` reads, cleaned as the converter cleans training frames."""

from functools import partial
from pathlib import Path

from nnunet_fganet.errors import InputError
from nnunet_fganet.files import written_beside
from nnunet_fganet.frames.collimation import clean_border
from nnunet_fganet.frames.reading import IMAGE_ENDINGS, is_image, read_frame
from nnunet_fganet.frames.report import REPORT_FILE, describe_collimation, write_collimation_report
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
        Replace an earlier result.

    Returns
    -------
    report
        One sentence on what was set to zero.

    Raises
    ------
    InputError
        No frames, unreadable frames, two frames of one name, or ``target`` is in the way.
    """
    frames = _find_frames(source)
    replace = _may_replace(target, force)
    names = [frame.stem for frame in frames]
    with written_beside(target, overwrite=replace) as folder:
        folder.mkdir()
        removed = map_with_progress(partial(_prepare, folder=folder), frames, workers, "prepare")
        write_collimation_report(folder, names, removed)
    return describe_collimation(removed)


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


def _may_replace(target: Path, force: bool) -> bool:
    """Whether an existing ``target`` may go: an empty folder always, an earlier result with ``--force``.

    Anything else is not ours to delete: ``--force`` with a wrong folder would take the user's files.
    """
    if not target.exists():
        return False
    if not target.is_dir():
        raise InputError(f"{target} is a file: name a folder to write the prepared frames to.")
    content = list(target.iterdir())
    foreign = [path.name for path in content if not (path.name.endswith("_0000.png") or path.name == REPORT_FILE)]
    if force and foreign:
        raise InputError(f"{target} holds more than prepared frames ({foreign[0]}): choose another folder.")
    return force or not content
