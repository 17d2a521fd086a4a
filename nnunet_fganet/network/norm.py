"""Normalisation layers."""

import torch
from torch import nn
from torch.nn import functional


class InstanceNorm2d(nn.InstanceNorm2d):
    """InstanceNorm computed as a LayerNorm over height and width, which is the same.

    torch's own returns wrong gradients on the CPU where a batch holds one image and the gradient that
    arrives has channels last, as it has behind a deformable convolution (seen with torch 2.15.0:
    ``functional.instance_norm`` views such a batch as one that is laid out like its input).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, height, width)`` to the same shape."""
        normalized = functional.layer_norm(x, x.shape[2:], eps=self.eps)
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
