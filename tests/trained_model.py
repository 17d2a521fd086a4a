"""Folders of trained models as nnU-Net leaves them, with random weights: what is needed where no training is."""

import json
from pathlib import Path

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_fganet.planning.planner import network_plan

REGION = {"labels": {"background": 0, "guidewire": [1, 1]}, "regions_class_order": [1]}
PLAIN = {"labels": {"background": 0, "guidewire": 1}}
FGANET = network_plan({"features_per_stage": [8, 16, 16, 16]})
UNET = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 4,
        "features_per_stage": [4, 8, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3]] * 4,
        "strides": [[1, 1], [2, 2], [2, 2], [2, 2]],
        "n_conv_per_stage": [1, 1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}


def write_model(folder: Path, architecture: dict = FGANET, patch: int = 64, description: dict = REGION) -> Path:
    """A results folder with one fold of the network that ``architecture`` describes."""
    trainer = "nnUNetTrainerFGANet" if architecture is FGANET else "nnUNetTrainer"
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetFGANetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [patch, patch],
        "spacing": [1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [True],
        "batch_dice": True,
        "architecture": architecture,
    }
    for what in ("data", "seg", "probabilities"):
        configuration[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{what}_kwargs"] = resampling
    plans = {
        "dataset_name": "Dataset901_Wires",
        "plans_name": "nnUNetFGANetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "image_reader_writer": "NaturalImage2DIO",
        "foreground_intensity_properties_per_channel": {"0": {}},
        "configurations": {"2d": configuration},
    }
    dataset = {"channel_names": {"0": "xray"}, "file_ending": ".png", "numTraining": 10, **description}
    torch.manual_seed(0)
    heads = 1 if description is REGION else 2
    kwargs, imports = architecture["arch_kwargs"], architecture["_kw_requires_import"]
    network = get_network_from_plans(
        architecture["network_class_name"], kwargs, imports, 1, heads, deep_supervision=False
    )
    folder.joinpath("fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    torch.save(
        {
            "trainer_name": trainer,
            "init_args": {"configuration": "2d"},
            "inference_allowed_mirroring_axes": (0, 1),
            "network_weights": network.state_dict(),
        },
        folder / "fold_0" / "checkpoint_final.pth",
    )
    return folder
