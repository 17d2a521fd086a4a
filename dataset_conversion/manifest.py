"""A table that names every frame: the way for layouts that no rule covers."""

from pathlib import Path

from dataset_conversion.frame import SPLITS, Frame
from dataset_conversion.paths import resolve_inside
from dataset_conversion.sources import describe_place
from dataset_conversion.tables import read_table
from nnunet_fganet.errors import InputError


def read_manifest(path: Path, source: Path) -> list[Frame]:
    """Read the frames that a manifest lists.

    Parameters
    ----------
    path
        CSV with the columns ``image`` and ``mask`` (paths relative to ``source``), and any of ``sequence``,
        ``patient``, ``split`` (one of :data:`.frame.SPLITS`; where empty, what the folders say, else train),
        ``spacing_mm`` and ``time_s``.
    source
        The folder that all paths lie in.

    Raises
    ------
    InputError
        A file is missing or outside ``source``, a split is not known, an image or a mask is listed twice, or the
        patient is given for some frames only.
    """
    frames: dict[str, Frame] = {}
    by_mask: dict[Path, Frame] = {}
    for row in read_table(path, required=("image", "mask")):
        frame = _read_row(path, source, row)
        if frame.source in frames:
            raise InputError(f"{path} lists {frame.source} twice: keep one of the rows.")
        if (other := by_mask.setdefault(frame.mask, frame)) is not frame:
            raise InputError(
                f"{path} lists the mask {row['mask']} for {other.source} and for {frame.source}: "
                "give each frame a mask of its own."
            )
        frames[frame.source] = frame
    without_patient = [frame.source for frame in frames.values() if not frame.patient]
    if 0 < len(without_patient) < len(frames):
        raise InputError(f"{path} gives no patient for {without_patient[0]}: fill the column in everywhere or nowhere.")
    return sorted(frames.values(), key=lambda frame: frame.source)


def _read_row(path: Path, source: Path, row: dict[str, str]) -> Frame:
    image = _resolve(path, source, row["image"], "image")
    mask = _resolve(path, source, row["mask"], "mask")
    place = describe_place(image, source)
    given = row.get("split", "").lower()
    if given and given not in SPLITS:
        raise InputError(f"{path} has the split {row['split']!r} for {row['image']}: use one of {', '.join(SPLITS)}.")
    split = SPLITS[given] if given else place["split"]
    known = {key: row.get(key, "") for key in ("sequence", "patient", "spacing_mm", "time_s")}
    # mypy knows one type for all values of a dictionary.
    return Frame(image, mask, **(place | {"split": split}), **known)  # type: ignore[arg-type]


def _resolve(path: Path, source: Path, name: str, what: str) -> Path:
    found = resolve_inside(source, source, name)
    if found is None:
        raise InputError(f"{path} lists the {what} {name}, outside the source folder {source}: move it there.")
    if not found.is_file():
        raise InputError(f"{path} lists the {what} {found}, which is missing: correct the path (relative to {source}).")
    return found
