"""Which networks FGA-Net is compared with, and the ``architecture`` entry of plans for each.

The widths are those with which the paper's Table 1 was made (docs/comparators.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_fganet.errors import InputError
from nnunet_fganet.network.fganet import RELEASED_FEATURES
from nnunet_fganet.planning.planner import CONFIGURATION, STOCK_CONFIGURATION
from nnunet_fganet.training.fganet_trainer import FGANET_CLASS_NAME

Plans = Mapping[str, Any]
Architecture = dict[str, Any]

WIDTH_MULTIPLE = 8
UNET_WIDTHS = (32, 64, 128, 256, 512)
ATTENTION_UNET_WIDTHS = (64, 128, 256, 512, 1024)
RESNET34_WIDTHS = (64, 128, 256, 512)
UNETPLUSPLUS_OUTPUTS = 4

XCEPTION65_MIDDLE_BLOCKS = 16
XCEPTION_STEM_WIDTH = 64  # timm has no argument for it
DEEPLAB_DECODER_WIDTH = 256

RESIDUAL_BLOCKS = (1, 3, 4, 6)  # of nnU-Net's ResEncUNetPlanner; all later stages as the last
RESIDUAL_CLASS_NAME = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"


@dataclass(frozen=True)
class Comparator:
    """One of the networks that are compared.

    Parameters
    ----------
    title
        Its name in tables.
    architecture
        Makes the ``architecture`` entry of plans from plans of ``fganet plan`` and the scale of widths.
    """

    title: str
    architecture: Callable[[Plans, float], Architecture]


def scaled(widths: Sequence[int], scale: float) -> list[int]:
    """Widths times ``scale``, rounded to multiples of 8 and at least 8."""
    return [max(1, round(width * scale / WIDTH_MULTIPLE)) * WIDTH_MULTIPLE for width in widths]


def width_scale_of(plans: Plans) -> float:
    """Widths of the planned FGA-Net, in those of the released one."""
    return _planned_fganet(plans, 1.0)["arch_kwargs"]["features_per_stage"][0] / RELEASED_FEATURES[0]


def _entry(class_name: str, **arguments: Any) -> Architecture:
    return {"network_class_name": class_name, "arch_kwargs": arguments, "_kw_requires_import": []}


def _planned_fganet(plans: Plans, _scale: float) -> Architecture:
    """FGA-Net as planned: the scale of the others is taken from it."""
    architecture = plans["configurations"].get(CONFIGURATION, {}).get("architecture", {})
    if architecture.get("network_class_name") != FGANET_CLASS_NAME:
        raise InputError(
            f"the plans {plans['plans_name']} hold no FGA-Net to compare with: make plans with fganet plan."
        )
    return architecture


def _unet(_plans: Plans, scale: float) -> Architecture:
    return _entry("nnunet_fganet.comparators.unet.UNet", widths=scaled(UNET_WIDTHS, scale))


def _unetplusplus(_plans: Plans, scale: float) -> Architecture:
    return _entry(
        "nnunet_fganet.comparators.unetplusplus.UNetPlusPlus",
        widths=scaled(UNET_WIDTHS, scale),
        strides=[[1, 1]] * (UNETPLUSPLUS_OUTPUTS + 1),  # nnU-Net derives its targets from them, and drops the last
    )


def _attention_unet(_plans: Plans, scale: float) -> Architecture:
    return _entry("nnunet_fganet.comparators.attention_unet.AttentionUNet", widths=scaled(ATTENTION_UNET_WIDTHS, scale))


def _cenet(_plans: Plans, scale: float) -> Architecture:
    return _entry("nnunet_fganet.comparators.cenet.CENet", widths=scaled(RESNET34_WIDTHS, scale))


def _deeplabv3plus(_plans: Plans, scale: float) -> Architecture:
    return _entry(
        "nnunet_fganet.comparators.deeplabv3plus.DeepLabV3Plus",
        encoder_name="tu-xception65",
        block_cfg=xception65_blocks(scale),
        decoder_channels=scaled([DEEPLAB_DECODER_WIDTH], scale)[0],
        decoder_aspp_separable=False,
    )


def xception65_blocks(scale: float) -> list[dict[str, Any]]:
    """Xception-65 as timm's ``block_cfg``, all its widths scaled but the stem's."""
    first, second, middle, last = scaled((128, 256, 728, 1024), scale)
    exit_widths = scaled((1536, 1536, 2048), scale)
    return [
        {"in_chs": XCEPTION_STEM_WIDTH, "out_chs": first, "stride": 2},
        {"in_chs": first, "out_chs": second, "stride": 2},
        {"in_chs": second, "out_chs": middle, "stride": 2},
        *({"in_chs": middle, "out_chs": middle, "stride": 1} for _ in range(XCEPTION65_MIDDLE_BLOCKS)),
        {"in_chs": middle, "out_chs": [middle, last, last], "stride": 2},
        {"in_chs": last, "out_chs": exit_widths, "stride": 1, "no_skip": True, "start_with_relu": False},
    ]


def _nnunet(plans: Plans, scale: float) -> Architecture:
    """What nnU-Net's planner chose for our patch, in the widths asked for."""
    if STOCK_CONFIGURATION not in plans["configurations"]:
        raise InputError(
            f"the plans {plans['plans_name']} have no configuration {STOCK_CONFIGURATION}, because nnU-Net's network "
            "cannot halve the patch: plan with another --patch, or leave nnunet and nnunet_resenc out."
        )
    architecture = plans["configurations"][STOCK_CONFIGURATION]["architecture"]
    widths = scaled(architecture["arch_kwargs"]["features_per_stage"], scale)
    return {**architecture, "arch_kwargs": {**architecture["arch_kwargs"], "features_per_stage": widths}}


def _nnunet_resenc(plans: Plans, scale: float) -> Architecture:
    """The same stages with the residual blocks of nnU-Net's ResEncUNetPlanner."""
    architecture = _nnunet(plans, scale)
    arguments = dict(architecture["arch_kwargs"])
    stages = arguments["n_stages"]
    del arguments["n_conv_per_stage"]
    arguments["n_blocks_per_stage"] = [RESIDUAL_BLOCKS[min(stage, len(RESIDUAL_BLOCKS) - 1)] for stage in range(stages)]
    arguments["n_conv_per_stage_decoder"] = [1] * (stages - 1)
    return {**architecture, "network_class_name": RESIDUAL_CLASS_NAME, "arch_kwargs": arguments}


COMPARATORS: dict[str, Comparator] = {
    "unet": Comparator("U-Net", _unet),
    "unetplusplus": Comparator("U-Net++", _unetplusplus),
    "attention_unet": Comparator("Attention U-Net", _attention_unet),
    "cenet": Comparator("CE-Net", _cenet),
    "deeplabv3plus": Comparator("DeepLabV3+", _deeplabv3plus),
    "nnunet": Comparator("nnU-Net", _nnunet),
    "nnunet_resenc": Comparator("nnU-Net (residual encoder)", _nnunet_resenc),
    "fganet": Comparator("FGA-Net", _planned_fganet),
}
