"""Normalisation layers."""

import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.network.rounded import is_rounded


def instance_norm(x: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """InstanceNorm without parameters, ``(batch, channels, height, width)`` to the same shape.

    Computed as a LayerNorm over height and width or, with channels last, as the BatchNorm of each image (on a
    GPU where there is one): both are the same. torch's own InstanceNorm returns wrong gradients on the CPU where
    a batch holds one image and the gradient that arrives has channels last, as it has behind a
    deformable convolution (seen with torch 2.15.0: ``functional.instance_norm`` views such a batch as
    one that is laid out like its input); and it copies what has channels last.
    """
    if not has_channels_last(x) or (x.device.type != "cpu" and len(x) > 1):
        return functional.layer_norm(x, x.shape[2:], eps=eps)
    if len(x) == 1:
        return functional.batch_norm(x, None, None, training=True, eps=eps)
    return torch.cat([functional.batch_norm(image, None, None, training=True, eps=eps) for image in x.split(1)])


def image_norm(x: torch.Tensor) -> torch.Tensor:
    """LayerNorm over channels, height and width of each image, without parameters."""
    if not has_channels_last(x):
        return functional.layer_norm(x, x.shape[1:])
    rows = x.permute(0, 2, 3, 1)  # the order of the pixels does not matter, and torch copies what is not in order
    return functional.layer_norm(rows, rows.shape[1:]).permute(0, 3, 1, 2)


def has_channels_last(x: torch.Tensor) -> bool:
    """Whether the channels of a pixel lie side by side in memory."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def computes_in_loops(*images: torch.Tensor) -> bool:
    """Whether compiled loops take these images: of a CPU, float32 or :mod:`.rounded`, and not recorded.

    The first one has channels last.
    """
    usual = all(type(x) is torch.Tensor and x.device.type == "cpu" for x in images)
    usual = usual and all(x.dtype == torch.float32 or is_rounded(x) for x in images)
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return usual and has_channels_last(images[0]) and not recorded


class InstanceNorm2d(nn.InstanceNorm2d):
    """``torch.nn.InstanceNorm2d`` computed by :func:`instance_norm`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, height, width)`` to the same shape."""
        normalized = instance_norm(x, self.eps)
        if self.weight is None:
            return normalized
        return normalized * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


NORMS = {"batch": nn.BatchNorm2d, "instance": InstanceNorm2d}


def norm_layer(kind: str, channels: int) -> nn.Module:
    """Normalisation with learnt scale and shift; ``kind`` is a key of :data:`NORMS`.

    Raises
    ------
    ValueError
        ``kind`` is not known.
    """
    if kind not in NORMS:
        raise ValueError(f"normalisation {kind!r} is not known; choose one of {', '.join(NORMS)}")
    return NORMS[kind](channels, affine=True)
