"""FGA-Net's decoder, with the heads of the main output and of deep supervision."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.network.bga import concatenate
from nnunet_fganet.network.conv import Conv2d


class DecoderStage(nn.Module):
    """``[fused skip, upsampled deeper features]`` -> SDA (where built) -> ConvBlock.

    Parameters
    ----------
    deep_channels, skip_channels
        Channels of the deeper features and of the encoder's. Where they differ (the paper's text
        has 1024 and 512 at the bottleneck) a 1x1 convolution brings the deeper ones to the skip's.
    out_channels
        Channels of the output.
    make_block, make_sda, make_bga
        See :class:`Decoder`.
    """

    def __init__(
        self,
        deep_channels: int,
        skip_channels: int,
        out_channels: int,
        make_block: Callable[[int, int, int], nn.Module],
        make_sda: Callable[[int], nn.Module] | None,
        make_bga: Callable[[int], nn.Module] | None,
    ) -> None:
        super().__init__()
        self.skip_channels = skip_channels
        same = deep_channels == skip_channels
        self.match = nn.Identity() if same else Conv2d(deep_channels, skip_channels, 1)
        self.bga = None if make_bga is None else make_bga(skip_channels)
        self.sda = nn.Identity() if make_sda is None else make_sda(2 * skip_channels)
        self.block = make_block(2 * skip_channels, skip_channels, out_channels)

    def forward(self, deep: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """``(batch, deep_channels, h, w)``, ``(batch, skip_channels, 2h, 2w)`` to ``(batch, out_channels, 2h, 2w)``."""
        deep = self.match(deep)
        fused = skip if self.bga is None else self.bga(skip, deep)
        return self.block(self.sda(concatenate(fused, deep, self.training)))


class Decoder(nn.Module):
    """Decoder stages from the bottleneck to full resolution.

    Parameters
    ----------
    features
        Widths of the encoder's stages.
    num_classes
        Channels of each output.
    make_block
        ``(in, mid, out)`` channels to a ConvBlock.
    make_sda
        Channels to an SDA module; None leaves SDA out.
    make_bga
        Channels to a BGA module; None concatenates the skip as it is.
    deep_supervision
        Return the outputs of all heads instead of the main one; nnU-Net switches it after
        construction, so all heads are always built and the state dict does not depend on it.
    """

    # Features at half and full resolution have no SDA, as in the encoder.
    STAGES_WITHOUT_SDA = 2

    def __init__(
        self,
        features: Sequence[int],
        num_classes: int,
        make_block: Callable[[int, int, int], nn.Module],
        make_sda: Callable[[int], nn.Module] | None,
        make_bga: Callable[[int], nn.Module] | None,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        skips = list(features[-2::-1])
        outs = decoder_features(features)
        deeps = [features[-1], *outs]
        stages = []
        for j, (skip, out) in enumerate(zip(skips, outs, strict=True)):
            coarse = j < len(skips) - self.STAGES_WITHOUT_SDA
            stages.append(DecoderStage(deeps[j], skip, out, make_block, make_sda if coarse else None, make_bga))
        self.stages = nn.ModuleList(stages)
        # Main output first, then from fine to coarse. nnU-Net leaves keys with ".seg_layers." out when
        # it loads pretrained weights, so that the number of classes may change.
        self.seg_layers = nn.ModuleList(Conv2d(width, num_classes, 1) for width in [*outs[::-1], features[-1]])

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """Encoder features, finest first, to logits ``(batch, num_classes, H, W)``; a list with deep supervision."""
        x = features[-1]
        coarse_to_fine = [x]
        for stage, skip in zip(self.stages, features[-2::-1], strict=True):
            x = stage(x, skip)
            coarse_to_fine.append(x)
        main = self.seg_layers[0](x)
        if not self.deep_supervision:
            return main
        heads = zip(list(self.seg_layers)[1:], coarse_to_fine[-2::-1], strict=True)
        return [main, *(_resize(head(x), main.shape[2:]) for head, x in heads)]


def decoder_features(features: Sequence[int]) -> list[int]:
    """Widths of the decoder's stages, coarsest first, that follow from the encoder's.

    A stage ends with the width of the next finer skip, so that both inputs of the next stage agree.
    The paper's text, whose bottleneck is twice as wide as the stage before, has 512 256 128 64 32:
    each stage ends with the width of its own skip.
    """
    skips = list(features[-2::-1])
    if features[-1] != features[-2]:
        return skips
    return [*skips[1:], skips[-1]]


def _resize(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
