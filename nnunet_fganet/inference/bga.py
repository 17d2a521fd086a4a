"""BGA, the decoder's stages and pooling for inference: as few full-resolution intermediates as it takes."""

from typing import TypeGuard

import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.compiled.half import NUMBERS
from nnunet_fganet.compiled.operators import gate_and_add_rows, gate_by_sigmoid_rows, joined_rows, max_pool2_rows
from nnunet_fganet.inference.packing import FixedPointConv2d
from nnunet_fganet.network.bga import BGA, upsample2
from nnunet_fganet.network.decoder import DecoderStage
from nnunet_fganet.network.layout import converted, image, image_rows


class PreparedBGA(nn.Module):
    """See :class:`nnunet_fganet.network.bga.BGA`; takes the convolutions of ``bga``, which are ready already."""

    def __init__(self, bga: BGA) -> None:
        super().__init__()
        self.low_fine, self.low_coarse = bga.low_fine, bga.low_coarse
        self.high_fine, self.high_coarse = bga.high_fine, bga.high_coarse
        self.fusion = bga.fusion

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """See :meth:`nnunet_fganet.network.bga.BGA.forward`."""
        fine, gate = self.low_fine(low), self.high_fine(high)
        coarse = _gated(self.low_coarse(low), self.high_coarse(high))
        if _joins_images(self.fusion):
            return _run(self.fusion, fine, gate, coarse)
        return self.fusion(_gated_fine(fine, gate, coarse))


class PreparedDecoderStage(nn.Module):
    """See :class:`nnunet_fganet.network.decoder.DecoderStage`; takes the parts of ``stage``, which are ready.

    ``dtype`` is the one that they compute in; what other stages give may be in another.
    """

    def __init__(self, stage: DecoderStage, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.match, self.bga, self.sda, self.block = stage.match, stage.bga, stage.sda, stage.block

    def forward(self, deep: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """See :meth:`nnunet_fganet.network.decoder.DecoderStage.forward`."""
        deep, skip = self.match(converted(deep, self.dtype)), converted(skip, self.dtype)
        fused = skip if self.bga is None else self.bga(skip, deep)
        if isinstance(self.sda, nn.Identity) and _joins_images(self.block):
            return _run(self.block, fused, deep)
        return self.block(self.sda(self.join(fused, deep)))

    def join(self, fused: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        """Concatenate the fused skip and the deeper features, upsampled."""
        if not _in_loops(fused):
            return torch.cat((fused, upsample2(deep)), dim=1)
        return image(joined_rows(image_rows(fused), image_rows(deep)))


class PreparedMaxPool2d(nn.Module):
    """``torch.nn.MaxPool2d(2)``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, height, width)``, even sizes, to half the height and width."""
        return image(max_pool2_rows(image_rows(x))) if _in_loops(x) else functional.max_pool2d(x, 2)


def _joins_images(layers: nn.Module) -> TypeGuard[nn.Sequential]:
    """Whether the first layer takes several images, and joins them as it reads."""
    return isinstance(layers, nn.Sequential) and isinstance(layers[0], FixedPointConv2d)


def _run(layers: nn.Sequential, *images: torch.Tensor) -> torch.Tensor:
    """Run layers of which the first one takes several images."""
    first, *others = layers
    x: torch.Tensor = first(*images)
    for layer in others:
        x = layer(x)
    return x


def _gated(values: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """``values * sigmoid(gate)``, at best into the memory of ``values``."""
    if not _in_loops(values):
        return values.mul_(gate.sigmoid_())
    rows = image_rows(values)
    gate_by_sigmoid_rows(rows, image_rows(gate))
    return image(rows)


def _gated_fine(fine: torch.Tensor, gate: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """``fine * sigmoid(upsample2(gate)) + upsample2(coarse)``, at best into the memory of ``fine``."""
    if not _in_loops(fine):
        return fine.mul_(upsample2(gate).sigmoid_()).add_(upsample2(coarse))
    rows, *others = (image_rows(each) for each in (fine, gate, coarse))
    gate_and_add_rows(rows, *others)
    return image(rows)


def _in_loops(x: torch.Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in NUMBERS
