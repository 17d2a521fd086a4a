"""U-Net (Ronneberger et al., MICCAI 2015) from the parts of dynamic-network-architectures."""

from collections.abc import Sequence

from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import nn

from nnunet_fganet.comparators.adapter import AdaptedNetwork


class UNet(AdaptedNetwork):
    """Max pooling, twice [3 x 3, BatchNorm, ReLU], transposed 2 x 2 convolutions; one output.

    What sets it apart from stock nnU-Net: pooling instead of strided convolutions, BatchNorm and ReLU
    instead of InstanceNorm and LeakyReLU, no deep supervision.

    Parameters
    ----------
    input_channels, num_classes, deep_supervision
        See :class:`nnunet_fganet.comparators.adapter.AdaptedNetwork`.
    widths
        Channels of each stage; as many stages as there are widths.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        widths: Sequence[int],
    ) -> None:
        stages = len(widths)
        encoder = PlainConvEncoder(
            input_channels,
            n_stages=stages,
            features_per_stage=list(widths),
            conv_op=nn.Conv2d,
            kernel_sizes=3,
            strides=[1] + [2] * (stages - 1),
            n_conv_per_stage=2,
            conv_bias=True,
            norm_op=nn.BatchNorm2d,
            norm_op_kwargs={},
            nonlin=nn.ReLU,
            nonlin_kwargs={"inplace": True},
            return_skips=True,
            pool="max",
        )
        decoder = UNetDecoder(encoder, num_classes, n_conv_per_stage=2, deep_supervision=False)
        decoder.seg_layers = decoder.seg_layers[-1:]  # the heads of lower resolutions would get no gradient
        super().__init__(nn.Sequential(encoder, decoder), input_channels, 2 ** (stages - 1), deep_supervision)

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Draw the weights of one module as the library does for its own U-Nets."""
        InitWeights_He(1e-2)(module)
