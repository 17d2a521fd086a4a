"""What a planned data set tells of its frames."""

import json
import shutil
from pathlib import Path

import cv2
import pytest
from planned_dataset import write_planned_dataset
from wire_dataset import DATASET_ID

from nnunet_fganet.comparison.dataset import data_digest, find_planned_dataset
from nnunet_fganet.errors import InputError
from nnunet_fganet.planning.planner import PLANS_NAME


@pytest.fixture
def folder(nnunet) -> Path:
    return write_planned_dataset(nnunet.raw, nnunet.preprocessed)


def digest() -> str:
    return data_digest(find_planned_dataset(DATASET_ID, PLANS_NAME))


@pytest.mark.parametrize("sub", ["imagesTr", "labelsTr"])
def test_the_digest_tells_changed_frames_and_masks(nnunet, folder: Path, sub: str) -> None:
    before = digest()
    files = sorted((nnunet.raw / folder.name / sub).glob("*.png"))
    assert digest() == before
    (files[0].parent / ".DS_Store").touch()  # what file managers leave
    assert digest() == before
    written = files[0].read_bytes()
    frame = cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED)
    frame[0, 0] ^= 1
    cv2.imwrite(str(files[0]), frame)
    assert digest() != before
    files[0].write_bytes(written)
    assert digest() == before
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, reversed(contents), strict=True):
        file.write_bytes(content)
    assert digest() != before


def test_masks_corrected_after_the_preprocessing_are_named(nnunet, folder: Path) -> None:
    masks = nnunet.raw / folder.name / "labelsTr"
    shutil.copytree(masks, folder / "gt_segmentations")  # as nnU-Net does
    find_planned_dataset(DATASET_ID, PLANS_NAME)
    changed = sorted(masks.glob("*.png"))[3]
    frame = cv2.imread(str(changed), cv2.IMREAD_UNCHANGED)
    frame[0, 0] ^= 1
    cv2.imwrite(str(changed), frame)
    with pytest.raises(InputError, match=rf"holds masks that changed .*{changed.name}.*gt_segmentations, then run"):
        find_planned_dataset(DATASET_ID, PLANS_NAME)


def test_the_digest_tells_other_folds(folder: Path) -> None:
    before = digest()
    splits = json.loads((folder / "splits_final.json").read_text())
    splits[0], splits[1] = splits[1], splits[0]
    (folder / "splits_final.json").write_text(json.dumps(splits))
    assert digest() != before
