"""Operations of any network: what they are, and what the paper's Table 1 says of them."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunet_fganet.network.counting import MULTIPLY_ADDS, count_operations
from nnunet_fganet.network.fganet import FGANet

Visit = Callable[[nn.Module, torch.Tensor, torch.Tensor], None]

COUNTED = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.BatchNorm2d,
    nn.InstanceNorm2d,
    nn.PReLU,
    nn.Upsample,
    nn.AdaptiveAvgPool2d,
)

# What thop 0.1.1 takes for an element of the output of nn.Upsample.
UPSAMPLING_OPERATIONS = {"nearest": 1, "bilinear": 11}


def multiply_accumulates(network: nn.Module, input_channels: int, input_size: Sequence[int]) -> int:
    """Multiply-accumulates of all convolutions for one image of ``input_size`` (H, W)."""
    if isinstance(network, FGANet):  # torch does not count deformable convolutions
        return count_operations(network, input_channels, input_size).multiply_accumulates
    shadow, image = _shadow(network, input_channels, input_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(image)
    return counter.get_total_flops() // MULTIPLY_ADDS


def paper_count(network: nn.Module, input_channels: int, input_size: Sequence[int]) -> int:
    """What the paper's Table 1 calls FLOPs, for one image of ``input_size`` (H, W).

    These are the rules of the counter ``thop`` 0.1.1: multiply-accumulates of convolutions, where a
    transposed one counts as if each element of its output saw the whole kernel (four times too many
    for 2 x 2 with stride 2); of normalisation 4 operations an element, 2 without learnt factors; 11 an
    element of a bilinear upsampling module, 1 of a nearest one and of PReLU; and nothing for functions
    that are not modules. Subclasses count as what they derive from, and a module that two others hold
    counts once; thop itself overlooks the former (timm's BatchNorm) and counts the latter twice.
    """
    if isinstance(network, FGANet):  # its released code upsamples in modules that ours does not need
        return count_operations(network, input_channels, input_size).paper_count
    operations = 0

    def add(module: nn.Module, taken: torch.Tensor, given: torch.Tensor) -> None:
        nonlocal operations
        operations += _thop_operations(module, taken, given)

    _visit_modules(network, input_channels, input_size, add)
    return operations


def _thop_operations(module: nn.Module, taken: torch.Tensor, given: torch.Tensor) -> int:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return given.numel() * taken.shape[1] // module.groups * module.weight[0, 0].numel()
    if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d):
        return (4 if module.affine else 2) * taken.numel()
    if isinstance(module, nn.PReLU):
        return given.numel()
    if isinstance(module, nn.Upsample):
        return UPSAMPLING_OPERATIONS[module.mode] * given.numel()
    if isinstance(module, nn.AdaptiveAvgPool2d):
        window = taken[0, 0].numel() // given[0, 0].numel()
        return (window + 1) * given.numel()
    return 0


def _visit_modules(network: nn.Module, input_channels: int, input_size: Sequence[int], visit: Visit) -> None:
    """Call ``visit(module, input, output)`` for every module of :data:`COUNTED` in one forward pass."""
    shadow, image = _shadow(network, input_channels, input_size)
    for module in shadow.modules():
        if isinstance(module, COUNTED):
            module.register_forward_hook(lambda module, inputs, output: visit(module, inputs[0], output))
    with torch.no_grad():
        shadow(image)


def _shadow(network: nn.Module, input_channels: int, input_size: Sequence[int]) -> tuple[nn.Module, torch.Tensor]:
    """The network and an image without content (meta tensors): nothing is computed."""
    shadow = copy.deepcopy(network).to("meta").eval()
    return shadow, torch.empty(1, input_channels, *input_size, device="meta")
