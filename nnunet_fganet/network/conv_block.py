"""The two-convolution block of encoder and decoder."""

from torch import nn

from nnunet_fganet.network.conv import Conv2d
from nnunet_fganet.network.dropout import Dropout
from nnunet_fganet.network.norm import norm_layer
from nnunet_fganet.network.normalized import NormalizedConvolutions


class ConvBlock(NormalizedConvolutions):
    """Twice [3x3 convolution without bias, normalisation, dropout, LeakyReLU 0.01]."""

    def __init__(
        self, in_channels: int, mid_channels: int, out_channels: int, norm: str = "batch", dropout: float = 0.2
    ) -> None:
        layers: list[nn.Module] = []
        for before, after in ((in_channels, mid_channels), (mid_channels, out_channels)):
            layers += [
                Conv2d(before, after, 3, padding=1, bias=False),
                norm_layer(norm, after),
                Dropout(dropout),
                nn.LeakyReLU(0.01, inplace=True),
            ]
        super().__init__(*layers)
