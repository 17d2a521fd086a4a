"""Operations and feature maps of a network, counted without computing anything (meta tensors)."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from nnunet_fganet.network.decoder import DecoderStage
from nnunet_fganet.network.deform_conv import DeformConv2d

MULTIPLY_ADDS = 2  # a multiply-accumulate is two floating-point operations


@dataclass
class OperationCount:
    """What one forward pass costs, in units of one operation.

    ``paper_count`` is what the paper's Table 1 calls FLOPs (75.36 G): the counter ``thop`` 0.1.1
    takes multiply-accumulates of plain convolutions, 4 operations an element of BatchNorm, 2 of
    InstanceNorm, 11 of one of the three same-size bilinear upsamplings of each decoder stage, and
    nothing for deformable convolutions. The honest figure is :attr:`multiply_accumulates`.
    """

    convolution_macs: int = 0
    deformable_macs: int = 0
    batch_norm: int = 0
    instance_norm: int = 0
    upsampling: int = 0

    @property
    def multiply_accumulates(self) -> int:
        """Multiply-accumulates of all convolutions, deformable ones included."""
        return self.convolution_macs + self.deformable_macs

    @property
    def flops(self) -> int:
        """Floating-point operations of all convolutions."""
        return MULTIPLY_ADDS * self.multiply_accumulates

    @property
    def paper_count(self) -> int:
        """The sum that the paper prints as FLOPs."""
        return self.convolution_macs + self.batch_norm + self.instance_norm + self.upsampling


def count_operations(network: nn.Module, input_channels: int, input_size: Sequence[int]) -> OperationCount:
    """Count one forward pass for a single image of ``input_size`` (H, W)."""
    count = OperationCount()

    def add(module: nn.Module, output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            count.convolution_macs += output.numel() * module.weight[0].numel()
        elif isinstance(module, DeformConv2d):
            count.deformable_macs += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.BatchNorm2d):
            count.batch_norm += 4 * output.numel()
        elif isinstance(module, nn.InstanceNorm2d):
            count.instance_norm += 2 * output.numel()
        elif isinstance(module, DecoderStage):  # its output has as many pixels as an upsampling's
            count.upsampling += 11 * module.skip_channels * output[:, 0].numel()

    _visit_outputs(network, input_channels, input_size, add)
    return count


def conv_feature_map_size(network: nn.Module, input_channels: int, input_size: Sequence[int]) -> int:
    """Elements of the outputs of all convolutions for one image of ``input_size`` (H, W)."""
    elements = 0

    def add(module: nn.Module, output: torch.Tensor) -> None:
        nonlocal elements
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | DeformConv2d):
            elements += output.numel()

    _visit_outputs(network, input_channels, input_size, add)
    return elements


def _visit_outputs(
    network: nn.Module,
    input_channels: int,
    input_size: Sequence[int],
    visit: Callable[[nn.Module, torch.Tensor], None],
) -> None:
    """Call ``visit(module, output)`` for every module with a tensor output in one forward pass."""
    shadow = copy.deepcopy(network).to("meta").eval()

    def hook(module: nn.Module, _inputs: tuple, output: object) -> None:
        if isinstance(output, torch.Tensor):
            visit(module, output)

    for module in shadow.modules():
        module.register_forward_hook(hook)
    with torch.no_grad():
        shadow(torch.empty(1, input_channels, *input_size, device="meta"))
