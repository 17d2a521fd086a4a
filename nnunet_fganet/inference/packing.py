"""Convolutions made ready once: normalisation folded in, weights laid out, activation in the same pass."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Activation -> its name and arguments in oneDNN.
_ONEDNN_ACTIVATIONS: dict[str, tuple[str, list[float]]] = {
    "none": ("none", []),
    "relu": ("relu", []),
    "leaky_relu": ("leaky_relu", [0.01]),
}
_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "relu": functional.relu_,
    "leaky_relu": partial(functional.leaky_relu_, negative_slope=0.01),
}


class PackedConv2d(nn.Module):
    """A convolution with its activation, for inference only.

    On the CPU the weight lies in the layout that oneDNN computes with, so that no call lays it out
    again, and the activation is applied while the result is in the registers. Elsewhere a plain
    channels-last convolution.

    Parameters
    ----------
    conv
        The convolution, with "same" padding; its weights are copied.
    activation
        ``none``, ``relu`` or ``leaky_relu`` (slope 0.01).
    dtype
        Of weights, input and output.
    """

    def __init__(self, conv: nn.Conv2d, activation: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.activation = activation
        kernel_rows, kernel_columns = conv.kernel_size
        self.padding = [kernel_rows // 2, kernel_columns // 2]
        self.stride, self.dilation = list(conv.stride), list(conv.dilation)
        self.groups = conv.groups
        weight = conv.weight.detach().to(dtype)
        self.bias = None if conv.bias is None else conv.bias.detach().to(dtype)
        # oneDNN packs 1 x 1 weights for large images; small ones then take up to 17 times as long.
        packable = conv.kernel_size != (1, 1)
        self.packed = packable and weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(
                weight, self.padding, self.stride, self.dilation, self.groups
            )
        else:
            self.weight = weight.contiguous(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, height, width)`` to the convolution's output, activated."""
        if self.packed:
            name, arguments = _ONEDNN_ACTIVATIONS[self.activation]
            return torch.ops.mkldnn._convolution_pointwise(
                x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups, name, arguments, ""
            )
        out = functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return _ACTIVATIONS[self.activation](out)


def pack_convolutions(layers: nn.Sequential, dtype: torch.dtype) -> nn.Sequential:
    """Replace each [convolution, BatchNorm, activation] of a sequence in evaluation mode by one PackedConv2d.

    Other normalisations stay, dropout goes.
    """
    waiting = [layer for layer in layers if not isinstance(layer, nn.Dropout)]
    packed = nn.Sequential()
    while waiting:
        layer = waiting.pop(0)
        if isinstance(layer, nn.Conv2d):
            following = waiting[0] if waiting else None
            if isinstance(following, nn.BatchNorm2d):
                layer = fuse_conv_bn_eval(layer, following)
                waiting.pop(0)
            activation = _activation_name(waiting[0]) if waiting else "none"
            if activation != "none":
                waiting.pop(0)
            layer = PackedConv2d(layer, activation, dtype)
        packed.append(layer)
    return packed


def _activation_name(layer: nn.Module) -> str:
    if isinstance(layer, nn.ReLU):
        return "relu"
    if isinstance(layer, nn.LeakyReLU) and layer.negative_slope == 0.01:
        return "leaky_relu"
    return "none"
