"""Plans as ``fganet plan`` makes them, for small networks, and networks built from them as nnU-Net builds them."""

import copy

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_fganet.comparators.registry import COMPARATORS

SIZE = 64
SCALE = 0.25
REGION = {
    "channel_names": {"0": "xray"},
    "labels": {"background": 0, "guidewire": [1, 1]},
    "regions_class_order": [1],
    "file_ending": ".png",
}
STAGES = 5
PLANS = {
    "dataset_name": "Dataset901_Wires",
    "plans_name": "nnUNetFGANetPlans",
    "label_manager": "LabelManager",
    "configurations": {
        "2d": {
            "data_identifier": "nnUNetFGANetPlans_2d",
            "batch_size": 2,
            "patch_size": [SIZE, SIZE],
            "batch_dice": True,
            "architecture": {
                "network_class_name": "nnunet_fganet.network.fganet.FGANet",
                "arch_kwargs": {"features_per_stage": [8, 16, 32], "strides": [[1, 1]] * 4},
                "_kw_requires_import": [],
            },
            "fganet": {"epochs": 3, "iterations": 2, "skeleton_iterations": 3, "stage_weights": [1, 0.5, 0.25]},
        },
        "2d_stock": {
            "inherits_from": "2d",
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": STAGES,
                    "features_per_stage": [32, 64, 128, 256, 512],
                    "conv_op": "torch.nn.modules.conv.Conv2d",
                    "kernel_sizes": [[3, 3]] * STAGES,
                    "strides": [[1, 1], *[[2, 2]] * (STAGES - 1)],
                    "n_conv_per_stage": [2] * STAGES,
                    "n_conv_per_stage_decoder": [2] * (STAGES - 1),
                    "conv_bias": True,
                    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
                    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                    "dropout_op": None,
                    "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        },
    },
}


def plans():
    """Plans that a test may change."""
    return copy.deepcopy(PLANS)


def build(name, deep_supervision=False, input_channels=1, num_classes=1, scale=SCALE):
    """A comparator, built by nnU-Net's own function."""
    torch.manual_seed(0)
    architecture = COMPARATORS[name].architecture(PLANS, scale)
    return get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        input_channels,
        num_classes,
        allow_init=True,
        deep_supervision=deep_supervision,
    )
