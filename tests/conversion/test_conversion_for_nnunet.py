"""nnU-Net itself accepts what the converter writes."""

import json
from pathlib import Path

import pytest
from converter_sources import convert
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.preprocessing.normalization.default_normalization_schemes import ZScoreNormalization
from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import get_normalization_scheme
from nnunetv2.utilities.label_handling.label_handling import LabelManager


@pytest.mark.parametrize(("labels", "heads"), [("region", 1), ("plain", 2)])
def test_number_of_heads(labels: str, heads: int, source: Path, out: Path) -> None:
    content = json.loads((convert(source, out, "--labels", labels) / "dataset.json").read_text())
    manager = LabelManager(content["labels"], content.get("regions_class_order"))
    assert manager.num_segmentation_heads == heads
    assert manager.has_regions == (labels == "region")
    assert content["numTraining"] == 10
    assert get_normalization_scheme(content["channel_names"]["0"]) is ZScoreNormalization


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["region", "plain"])
def test_verify_dataset_integrity(labels: str, source: Path, out: Path) -> None:
    verify_dataset_integrity(str(convert(source, out, "--labels", labels)), num_processes=1)
