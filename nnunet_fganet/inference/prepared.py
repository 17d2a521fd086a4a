"""FGA-Net made ready for inference."""

import copy

import torch
from torch import nn

from nnunet_fganet.allocator import keep_freed_memory
from nnunet_fganet.inference.bga import PreparedBGA
from nnunet_fganet.inference.packing import pack_convolution, pack_convolutions
from nnunet_fganet.inference.sda import PreparedSDA
from nnunet_fganet.network.bga import BGA
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.network.norm import InstanceNorm2d, instance_norm
from nnunet_fganet.network.sda import SDA
from nnunet_fganet.precision import compute_dtypes


def optimize_for_inference(
    network: FGANet, dtype: torch.dtype | None = None, compiled: bool = False
) -> "PreparedFGANet":
    """Copy a network into one that predicts the same, sooner.

    The heads of deep supervision are dropped, BatchNorm is folded into the convolutions, weights
    are laid out once as the processor wants them, images have channels last, activations are
    applied by the convolutions. On a CPU the whole process then keeps freed memory
    (:func:`nnunet_fganet.allocator.keep_freed_memory`).

    Parameters
    ----------
    network
        Its weights are copied; later changes to them do not reach the copy.
    dtype
        To compute in; None: bfloat16 on a CPU with units for it, float16 on a GPU, else float32.
    compiled
        Also compile with ``torch.compile``, at the first image of each size: needs a C++ compiler
        (Triton on a GPU) and about a minute, and is for who predicts thousands of frames.
    """
    device = next(network.parameters()).device.type
    if dtype is None:
        dtype = torch.float16 if device == "cuda" else compute_dtypes().get(device, torch.float32)
    if device == "cpu":
        keep_freed_memory()
    prepared = PreparedFGANet(network, dtype)
    if compiled:
        if device == "cuda":
            prepared.network.compile(mode="reduce-overhead")  # CUDA graphs: the kernels are short
        else:
            # Packed convolutions are compiled for one size at a time: torch cannot lay them out for any.
            prepared.network.compile(dynamic=False, options={"freezing": True})
    return prepared


class PreparedFGANet(nn.Module):
    """See :func:`optimize_for_inference`; takes images of any size, with gradients switched off.

    It stays on the device and in the number format that it was made for, and has no state dict: its weights are packed.
    """

    def __init__(self, network: FGANet, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        with torch.inference_mode(False), torch.no_grad():
            network = copy.deepcopy(network).eval()
            network.decoder.deep_supervision = False
            network.decoder.seg_layers = network.decoder.seg_layers[:1]
            network.compute_dtypes, network.inference = {}, None
            self.network = _prepare(network, dtype)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(batch, num_classes, H, W)``, float32, of an image ``(batch, input_channels, H, W)``."""
        x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, enabled=False):
            logits = self.network(x)
        # A copy of its own: callers write into it, and a CUDA graph writes into its output again.
        return logits.to(torch.float32, memory_format=torch.contiguous_format, copy=True)


class _PreparedInstanceNorm(nn.Module):
    """InstanceNorm with scale and shift; see :func:`nnunet_fganet.network.norm.instance_norm`."""

    def __init__(self, norm: InstanceNorm2d, dtype: torch.dtype) -> None:
        super().__init__()
        self.eps = norm.eps
        self.scale = norm.weight.detach().to(dtype).view(-1, 1, 1)
        self.shift = norm.bias.detach().to(dtype).view(-1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self.shift, instance_norm(x, self.eps), self.scale)


def _prepare(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Replace, from the inside out, what has a faster form."""
    if isinstance(module, SDA):
        return PreparedSDA(module, dtype)
    if isinstance(module, nn.Conv2d):
        return pack_convolution(module, "none", dtype)
    if isinstance(module, InstanceNorm2d):
        return _PreparedInstanceNorm(module, dtype)
    if isinstance(module, nn.Sequential):
        module = pack_convolutions(module, dtype)
    for name, child in module.named_children():
        module.add_module(name, _prepare(child, dtype))
    return PreparedBGA(module) if isinstance(module, BGA) else module
