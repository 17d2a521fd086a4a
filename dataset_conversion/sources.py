"""Finds frames and their masks in the layouts that people keep them in (``docs/data.md`` shows them)."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from dataset_conversion import labelme
from dataset_conversion.frame import SPLITS, Frame
from nnunet_fganet.errors import InputError
from nnunet_fganet.frames.reading import is_image

_IMAGES = "images"
_MASKS = ("masks", "labels")


def find_frames(source: Path) -> list[Frame]:
    """Find all frames below ``source``, sorted by their path.

    Wherever a folder ``images`` lies, its frames (subfolders included) belong to the masks or Labelme files of
    the same names in ``masks`` or ``labels`` beside it (upper or lower case). Where there is no folder ``images``, or
    it has no masks beside it, Labelme files name their frames.

    Raises
    ------
    InputError
        No frames, a mask or an image (or the whole folder of them) is missing, or two files of one name.
    """
    check_source(source, is_listed=False)
    frames: list[Frame] = []
    image_folders, mask_folders = _find_folders(source)
    for images in image_folders:
        masks = [folder for folder in mask_folders if folder.parent == images.parent]
        frames += _pair(source, images, masks) if masks else _annotated_frames(source, images)
    frames = frames or _annotated_frames(source, source)
    _check_nothing_is_left_out(frames, image_folders, mask_folders)
    _check_annotations_are_used(source, frames, [*image_folders, *mask_folders])
    if not frames:
        raise InputError(
            f"{source} holds no frames: it needs folders images and masks, or Labelme files; "
            "any other layout can be listed in a table given by --manifest."
        )
    return sorted(frames, key=lambda frame: frame.source)


def check_source(source: Path, is_listed: bool) -> None:
    """Raise InputError where there is no such folder, or where it is nnU-Net's and no manifest lists its frames."""
    if not source.is_dir():
        raise InputError(f"{source} is no folder: give the folder that holds frames and masks.")
    if not is_listed and (source / "dataset.json").is_file() and (source / "imagesTr").is_dir():
        raise InputError(
            f"{source} is a data set of nnU-Net already: plan it with fganet plan (in $nnUNet_raw, grey frames of one "
            "channel), or list its frames in a table given by --manifest."
        )


def skipped_files(frames: Iterable[Frame]) -> list[Path]:
    """Files beside frames and masks that are neither images nor Labelme's."""
    folders = {path.parent for frame in frames for path in (frame.image, frame.mask)}
    files = [path for folder in sorted(folders) for path in folder.iterdir() if path.is_file()]
    return [path for path in files if not (is_image(path) or _is_json(path))]


def describe_place(path: Path, source: Path) -> dict[str, object]:
    """``source``, ``split`` and ``folders`` of a frame, from where its file lies."""
    relative = Path(os.path.relpath(path, source))
    parents = [part for part in relative.parts[:-1] if part.lower() != _IMAGES]
    splits = {SPLITS[part.lower()] for part in parents if part.lower() in SPLITS}
    split = "test" if "test" in splits else "train"
    folders = tuple(part for part in parents if part.lower() not in SPLITS)
    return {"source": relative.as_posix(), "split": split, "folders": folders}


def _find_folders(source: Path) -> tuple[list[Path], list[Path]]:
    """Folders of images and folders of masks, those in a folder ``images`` or a hidden one left out."""
    image_folders, mask_folders = [], []
    for folder, subfolders, _ in _walk(source):
        image_folders += [Path(folder, name) for name in subfolders if name.lower() == _IMAGES]
        mask_folders += [Path(folder, name) for name in subfolders if name.lower() in _MASKS]
        subfolders[:] = [name for name in subfolders if name.lower() != _IMAGES]
    return image_folders, mask_folders


def _check_nothing_is_left_out(frames: list[Frame], image_folders: list[Path], mask_folders: list[Path]) -> None:
    """Raise where a folder of images or masks has not given a frame: a whole split would be missing unnoticed."""
    used = {folder for frame in frames for path in (frame.image, frame.mask) for folder in path.parents}
    for images in image_folders:
        if images not in used and any(map(is_image, _files(images))):
            raise InputError(
                f"{images} holds images, but no folder masks or labels lies beside it: add the masks, or take it out."
            )
    for masks in mask_folders:
        if masks not in used and any(is_image(path) or _is_json(path) for path in _files(masks)):
            raise InputError(
                f"{masks} holds masks, but no folder images lies beside it: add the images, or take it out."
            )


def _check_annotations_are_used(source: Path, frames: list[Frame], folders: list[Path]) -> None:
    """Raise where a Labelme file outside the folders of images and masks belongs to no frame.

    One that has the name of a frame is what the frame's mask was exported from.
    """
    known = {path.stem for frame in frames for path in (frame.image, frame.mask)}
    for path in filter(_is_json, _files(source)):
        outside = not any(map(path.is_relative_to, folders))
        if outside and path.stem not in known and labelme.is_annotation(path):
            raise InputError(
                f"{path} is a Labelme file outside the folders images and masks that the other frames are in: "
                "move its frames to such folders, or take it out."
            )


def _pair(source: Path, images: Path, mask_folders: list[Path]) -> list[Frame]:
    """Frames of a folder with the masks of the same names in the folders beside it."""
    by_name = _by_name(images, (path for path in _files(images) if is_image(path)), "frames")
    masks: dict[str, Path] = {}
    for folder in mask_folders:
        found = _by_name(folder, (path for path in _files(folder) if is_image(path) or _is_json(path)), "masks")
        for name in masks.keys() & found.keys():
            raise InputError(f"{masks[name]} and {found[name]} are two masks of one frame: take one of them out.")
        masks |= found
    for name, image in by_name.items():
        if name not in masks:
            raise InputError(
                f"{image} has no mask {mask_folders[0] / name}.*: add it (all black where there is no wire), "
                "or take the frame out."
            )
    for name, mask in masks.items():
        if name not in by_name:
            raise InputError(f"{mask} has no image {images / name}.*: add the frame, or take the mask out.")
    # mypy knows one type for all values of what describe_place returns.
    return [Frame(image, masks[name], **describe_place(image, source)) for name, image in by_name.items()]  # type: ignore[arg-type]


def _annotated_frames(source: Path, folder: Path) -> list[Frame]:
    """Frames that Labelme files name or embed."""
    files = list(_files(folder))
    frames: list[Frame] = []
    for path in filter(_is_json, files):
        annotation = labelme.read_annotation(path, source)
        if annotation is not None:
            place = annotation.image if annotation.embedded is None else path
            frames.append(Frame(place, path, **describe_place(place, source)))  # type: ignore[arg-type]  # as above
    _by_name(folder, {frame.image: frame.image for frame in frames}, "frames")
    first: dict[Path, Frame] = {}
    for frame in frames:
        if (other := first.setdefault(frame.image, frame)) is not frame:
            raise InputError(f"{other.mask} and {frame.mask} both belong to {frame.image}: take one of them out.")
    if frames:
        annotated = {frame.mask.with_suffix("") for frame in frames} | {frame.image.with_suffix("") for frame in frames}
        for image in filter(is_image, files):
            if image.with_suffix("") not in annotated:
                raise InputError(
                    f"{image} has no Labelme file: save one (empty where there is no wire), or take the frame out."
                )
    return frames


def _files(folder: Path) -> Iterable[Path]:
    """All files below, in a fixed order, hidden ones and those in hidden folders left out."""
    for place, _, names in _walk(folder):
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """``os.walk`` in a fixed order, without hidden folders and nnU-Net's data sets; each link is followed once."""
    seen: set[str] = set()
    for place, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith(".") and not Path(place, name, "dataset.json").is_file()
        )
        yield place, subfolders, names


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _by_name(folder: Path, paths: Iterable[Path], what: str) -> dict[str, Path]:
    """Files by their path in the folder without the ending; raises where two are alike."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        found[os.path.relpath(path.with_suffix(""), folder)].append(path)
    for same in found.values():
        if len(same) > 1:
            raise InputError(f"{same[0]} and {same[1].name} are two {what} of one name: take one of them out.")
    return {name: same[0] for name, same in found.items()}
