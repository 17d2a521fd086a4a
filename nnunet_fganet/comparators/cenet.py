"""CE-Net (Gu et al., IEEE Trans Med Imaging 2019;38(10):2281-2292), on torchvision's residual blocks."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

from nnunet_fganet.comparators.adapter import AdaptedNetwork

RESNET34_BLOCKS = (3, 4, 6, 3)
POOL_SIZES = (2, 3, 5, 6)
REDUCTION = 4  # of the channels inside a decoder block
SIZE_MULTIPLE = 32


class CENet(AdaptedNetwork):
    """ResNet-34 encoder, dense atrous convolutions, multi-kernel pooling, additive skips; one output.

    Parameters
    ----------
    input_channels, num_classes, deep_supervision
        See :class:`nnunet_fganet.comparators.adapter.AdaptedNetwork`.
    widths
        Channels of the encoder's four stages; the paper's are ResNet-34's.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        widths: Sequence[int],
    ) -> None:
        network = _EncoderContextDecoder(input_channels, num_classes, widths)
        super().__init__(network, input_channels, SIZE_MULTIPLE, deep_supervision)

    @property
    def encoder(self) -> nn.Module:
        """The ResNet-34 without its classifier, as torchvision names its layers."""
        return self.network.get_submodule("encoder")

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Draw the weights of one module as torchvision does for its residual networks."""
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class ResNet34Encoder(nn.Module):
    """ResNet-34 up to its last residual block, in any width.

    With the widths of ResNet-34 its state dict is that of torchvision's ``resnet34`` without ``fc``.
    """

    def __init__(self, input_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_channels, widths[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _residual_stage(widths[0], widths[0], RESNET34_BLOCKS[0], stride=1)
        self.layer2 = _residual_stage(widths[0], widths[1], RESNET34_BLOCKS[1], stride=2)
        self.layer3 = _residual_stage(widths[1], widths[2], RESNET34_BLOCKS[2], stride=2)
        self.layer4 = _residual_stage(widths[2], widths[3], RESNET34_BLOCKS[3], stride=2)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Features of the four stages, ``(batch, widths[i], H / 2**(i + 2), W / 2**(i + 2))``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


class DenseAtrousConvolution(nn.Module):
    """DAC: four branches of cascaded atrous convolutions, added to the features that they see.

    Their receptive fields are 3, 7, 9 and 19 px of the feature map. The convolutions of equal rate are
    one and the same in all branches, as is the 1 x 1 convolution: so the network has the 29.00 M
    parameters that are reported of it. Each branch is computed by itself, as the paper counts it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rate1, self.rate3, self.rate5 = (
            nn.Conv2d(channels, channels, 3, padding=rate, dilation=rate) for rate in (1, 3, 5)
        )
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of the same shape."""
        branches = (
            self.rate1(x),
            self.pointwise(self.rate3(x)),
            self.pointwise(self.rate3(self.rate1(x))),
            self.pointwise(self.rate5(self.rate3(self.rate1(x)))),
        )
        for branch in branches:
            x = x + functional.relu(branch)
        return x


class ResidualMultiKernelPooling(nn.Module):
    """RMP: the features, and one channel each of their maxima over four sizes of window.

    A feature map smaller than a window is pooled as a whole (images below 192 px).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features with four channels more."""
        height, width = x.shape[2:]
        pooled = [functional.max_pool2d(x, (min(size, height), min(size, width))) for size in POOL_SIZES]
        maps = [functional.interpolate(self.pointwise(each), (height, width), mode="bilinear") for each in pooled]
        return torch.cat([*maps, x], dim=1)


class _EncoderContextDecoder(nn.Module):
    def __init__(self, input_channels: int, num_classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.encoder = ResNet34Encoder(input_channels, widths)
        self.context = nn.Sequential(DenseAtrousConvolution(widths[-1]), ResidualMultiKernelPooling(widths[-1]))
        deeper = (widths[3] + len(POOL_SIZES), widths[2], widths[1], widths[0])
        finer = (widths[2], widths[1], widths[0], widths[0])
        self.decoder = nn.ModuleList(_decoder_block(*channels) for channels in zip(deeper, finer, strict=True))
        half = widths[0] // 2
        self.head = nn.Sequential(
            nn.ConvTranspose2d(widths[0], half, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, num_classes, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *skips, deepest = self.encoder(x)
        x = self.context(deepest)
        for block, skip in zip(self.decoder[:-1], reversed(skips), strict=True):
            x = block(x) + skip
        return self.head(self.decoder[-1](x))


def _residual_stage(input_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or input_channels != channels:
        shortcut = nn.Sequential(
            nn.Conv2d(input_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
        )
    first = BasicBlock(input_channels, channels, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(channels, channels) for _ in range(blocks - 1)))


def _decoder_block(input_channels: int, output_channels: int) -> nn.Sequential:
    """1 x 1, transposed 3 x 3 that doubles the resolution, 1 x 1; each with BatchNorm and ReLU."""
    inner = input_channels // REDUCTION
    convolutions = (
        nn.Conv2d(input_channels, inner, 1),
        nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, output_padding=1),
        nn.Conv2d(inner, output_channels, 1),
    )
    layers: list[nn.Module] = []
    for convolution in convolutions:
        layers += [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
