"""DeepLabV3+ (Chen et al., ECCV 2018): segmentation_models_pytorch's."""

import copy
from typing import Any

from segmentation_models_pytorch import DeepLabV3Plus as LibraryDeepLabV3Plus
from timm.layers import BatchNormAct2d, ConvNormAct
from torch import nn

from nnunet_fganet.comparators.adapter import AdaptedNetwork

OUTPUT_STRIDE = 16


class DeepLabV3Plus(AdaptedNetwork):
    """Atrous spatial pyramid pooling over an encoder of output stride 16; one output.

    Parameters
    ----------
    input_channels, num_classes, deep_supervision
        See :class:`nnunet_fganet.comparators.adapter.AdaptedNetwork`.
    library_arguments
        Of :class:`segmentation_models_pytorch.DeepLabV3Plus`, such as ``encoder_name``,
        ``decoder_channels``; weights are never downloaded.
    """

    def __init__(
        self, input_channels: int, num_classes: int, deep_supervision: bool = False, **library_arguments: Any
    ) -> None:
        network = LibraryDeepLabV3Plus(
            encoder_weights=None,
            encoder_output_stride=OUTPUT_STRIDE,
            in_channels=input_channels,
            classes=num_classes,
            **copy.deepcopy(library_arguments),  # timm writes into its block_cfg, and these are the plans'
        )
        _take_activations_out(network)
        super().__init__(network, input_channels, OUTPUT_STRIDE, deep_supervision)

    @property
    def encoder(self) -> nn.Module:
        """The encoder, as timm names its layers."""
        return self.network.get_submodule("encoder.model")


def _take_activations_out(network: nn.Module) -> None:
    """Let the activations that timm keeps inside BatchNorm follow it as modules of their own.

    For several GPUs nnU-Net has torch replace each BatchNorm by SyncBatchNorm, and what is inside would be
    lost. timm's ``aa`` is what follows the BatchNorm: blurring, of which there is none here.
    """
    for module in network.modules():
        if isinstance(module, ConvNormAct) and isinstance(module.bn, BatchNormAct2d):
            module.aa, module.bn.act = module.bn.act, nn.Identity()
