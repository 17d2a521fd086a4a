"""A comparator through the stock nnU-Net commands, in fresh processes, from plans to prediction."""

import json

import cv2
import numpy as np
import pytest
import torch
from comparator_plans import REGION
from wire_dataset import DATASET_ID, DATASET_NAME, write_dataset

from nnunet_fganet.comparators.configurations import comparator_configurations, write_comparator_plans

pytestmark = pytest.mark.slow

D = str(DATASET_ID)
CONFIGURATION = "2d_unetplusplus_fganet_loss"
MODEL = ("-tr", "nnUNetTrainerComparator", "-device", "cpu", "-p", "nnUNetFGANetComparison")


def test_trained_and_predicted(nnunet, tmp_path):
    write_dataset(nnunet.raw, REGION["labels"], regions=True)
    small = ("--workers", "1", "--widths", "8", "16", "16", "--batch", "2", "--epochs", "1", "--iterations", "2")
    nnunet.run("fganet", "plan", D, *small)
    folder = nnunet.preprocessed / DATASET_NAME
    plans, dataset = (json.loads((folder / name).read_text()) for name in ("nnUNetFGANetPlans.json", "dataset.json"))
    configurations = comparator_configurations(plans, dataset, ["unetplusplus", "nnunet_resenc"], "fganet")
    write_comparator_plans(folder / "nnUNetFGANetPlans.json", folder / "nnUNetFGANetComparison.json", configurations)

    nnunet.run("nnUNetv2_train", D, CONFIGURATION, "0", *MODEL)
    run = nnunet.results / DATASET_NAME / f"nnUNetTrainerComparator__nnUNetFGANetComparison__{CONFIGURATION}"
    saved = torch.load(run / "fold_0" / "checkpoint_final.pth", weights_only=False, map_location="cpu")
    assert len(saved["logging"]["train_losses"]) == 1
    assert saved["network_weights"]["network.conv_0_0.conv_0.conv.weight"].shape == (8, 1, 3, 3)
    assert "foreground_mean" in json.loads((run / "fold_0" / "validation" / "summary.json").read_text())

    frames = nnunet.raw / DATASET_NAME / "imagesTs"
    where = ("-i", frames, "-o", tmp_path / "out", "-d", D, "-c", CONFIGURATION, "-f", "0")
    nnunet.run("nnUNetv2_predict", *where, *MODEL, "--disable_tta", "-npp", "1", "-nps", "1")
    for name in ("new0", "new1"):
        prediction = cv2.imread(str(tmp_path / "out" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert prediction.shape == (96, 96)
        assert set(np.unique(prediction)) <= {0, 1}
