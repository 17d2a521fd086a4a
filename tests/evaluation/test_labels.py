"""Classes and channels as nnU-Net's own label manager reads them."""

import json
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_fganet.errors import InputError
from nnunet_fganet.evaluation.labels import WIRE_OR_NOT, find_labels, read_labels

LABELS = {
    "region": ({"background": 0, "guidewire": [1, 1]}, [1]),
    "plain": ({"background": 0, "guidewire": 1}, None),
    "list_of_one": ({"background": 0, "guidewire": [1]}, None),
    "ignored": ({"background": 0, "guidewire": 1, "ignore": 2}, None),
    "several": ({"background": 0, "catheter": 2, "guidewire": 1, "ignore": 3}, None),
    "regions": ({"background": 0, "device": [1, 2], "guidewire": 2, "ignore": 3}, [1, 2]),
}


def write(folder: Path, labels: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder / "dataset.json"


@pytest.mark.parametrize("name", LABELS)
def test_classes_values_and_channels_are_those_of_nnunets_label_manager(name: str, tmp_path: Path) -> None:
    labels, order = LABELS[name]
    ours, theirs = read_labels(write(tmp_path, labels)), LabelManager(labels, order)
    assert ours.ignore == theirs.ignore_label
    assert ours.values == set(theirs.all_labels)
    assert ours.channels == (theirs.num_segmentation_heads,)
    if theirs.has_regions:
        values = [tuple(np.unique(region)) for region in theirs.foreground_regions]
        assert {one.values: one.channel for one in ours.classes} == {region: i for i, region in enumerate(values)}
    else:
        assert {one.channel for one in ours.classes} == set(theirs.foreground_labels)
        assert all(one.values == (one.channel,) for one in ours.classes)


def test_a_region_is_the_union_of_its_labels(tmp_path: Path) -> None:
    label = np.arange(4).reshape(2, 2)
    device, guidewire = read_labels(write(tmp_path, {"background": 0, "device": [1, 2], "guidewire": 2})).classes
    assert device.mask(label).ravel().tolist() == [False, True, True, False]
    assert guidewire.mask(label).ravel().tolist() == [False, False, True, False]
    assert WIRE_OR_NOT.classes[0].mask(label * 85).ravel().tolist() == [False, True, True, True]


def test_the_file_is_found_beside_the_labels_or_in_the_predictions(tmp_path: Path) -> None:
    predictions, labels = tmp_path / "predictions", tmp_path / "raw" / "labelsTs"
    labels.mkdir(parents=True)
    predictions.mkdir()
    assert find_labels(predictions, labels) is None
    write(predictions, LABELS["plain"][0])
    assert find_labels(predictions, labels).channels == (2,)
    write(tmp_path / "raw", LABELS["region"][0])
    assert find_labels(predictions, labels).channels == (2,)  # the network that predicted had softmax
    (predictions / "dataset.json").unlink()
    assert find_labels(predictions, labels).channels == (1,)


def test_predictions_of_other_classes_are_named(tmp_path: Path) -> None:
    write(tmp_path / "predictions", {"background": 0, "vessel": 1})
    write(tmp_path / "raw", LABELS["plain"][0])
    with pytest.raises(InputError, match=r"vessel \(1\).*guidewire \(1\)"):
        find_labels(tmp_path / "predictions", tmp_path / "raw" / "labelsTs")


@pytest.mark.parametrize("labels", [None, ["guidewire"], {"guidewire": "one"}, {"guidewire": None}, {"background": 0}])
def test_a_file_without_usable_labels_is_named(labels: object, tmp_path: Path) -> None:
    path = write(tmp_path, labels)
    with pytest.raises(InputError, match=r"dataset\.json"):
        read_labels(path)
