"""The two-convolution block of encoder and decoder, and the choice of normalisation layer."""

from torch import nn

NORMS = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}


def norm_layer(kind: str, channels: int) -> nn.Module:
    """Normalisation with learnt scale and shift; ``kind`` is a key of :data:`NORMS`."""
    if kind not in NORMS:
        raise ValueError(f"normalisation {kind!r} is not known; choose one of {', '.join(NORMS)}")
    return NORMS[kind](channels, affine=True)


class ConvBlock(nn.Sequential):
    """Twice [3x3 convolution without bias, normalisation, dropout, LeakyReLU 0.01]."""

    def __init__(
        self, in_channels: int, mid_channels: int, out_channels: int, norm: str = "batch", dropout: float = 0.2
    ) -> None:
        layers: list[nn.Module] = []
        for before, after in ((in_channels, mid_channels), (mid_channels, out_channels)):
            layers += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                norm_layer(norm, after),
                nn.Dropout(dropout),
                nn.LeakyReLU(0.01, inplace=True),
            ]
        super().__init__(*layers)
