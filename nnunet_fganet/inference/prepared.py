"""FGA-Net made ready for inference."""

import copy
from dataclasses import dataclass
from types import ModuleType
from typing import cast

import torch
from torch import nn

from nnunet_fganet.allocator import keep_freed_memory
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.gpu.availability import runs_kernels
from nnunet_fganet.inference.bga import PreparedBGA, PreparedDecoderStage, PreparedMaxPool2d
from nnunet_fganet.inference.graph import CudaGraphs
from nnunet_fganet.inference.packing import pack_convolution, pack_convolutions
from nnunet_fganet.inference.sda import PreparedSDA
from nnunet_fganet.network.bga import BGA
from nnunet_fganet.network.decoder import DecoderStage
from nnunet_fganet.network.deform_conv import DeformConv2d, choose_backend
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.network.layout import converted
from nnunet_fganet.network.norm import InstanceNorm2d, instance_norm
from nnunet_fganet.network.padding import run_padded
from nnunet_fganet.network.sda import SDA
from nnunet_fganet.precision import compute_dtypes, image_dtype

# Stages that are exact where others are in bfloat16, by measurement (docs/performance.md).
_FINE_ENCODER_STAGES, _FINE_DECODER_STAGES = 3, 2


def optimize_for_inference(
    network: FGANet, dtype: torch.dtype | None = None, compiled: bool = False
) -> "PreparedFGANet":
    """Copy a network into one that predicts the same, sooner.

    The heads of deep supervision are dropped, BatchNorm is folded into the convolutions, weights
    are laid out once as the processor wants them, images have channels last, activations are
    applied by the convolutions. On a CPU the whole process then keeps freed memory
    (:func:`nnunet_fganet.allocator.keep_freed_memory`); on a GPU the first image of each size is
    recorded, and replayed for the following ones (:mod:`nnunet_fganet.inference.graph`).

    Parameters
    ----------
    network
        Its weights are copied; later changes to them do not reach the copy.
    dtype
        To compute in; None: bfloat16 on a CPU with units for it, float16 on a GPU, else float32. In bfloat16 a CPU
        computes parts in float32 (:func:`nnunet_fganet.precision.image_dtype`).
    compiled
        On a CPU, also compile with ``torch.compile``, at the first image of each size: needs a C++ compiler
        and about a minute, and is for who predicts thousands of frames.

    Raises
    ------
    ValueError
        ``compiled`` on a GPU.
    """
    device = _device_type(network)
    if compiled and device != "cpu":
        raise ValueError("nothing is compiled on GPUs: there the network is a CUDA graph of kernels already")
    if dtype is None:
        dtype = torch.float16 if device == "cuda" else compute_dtypes().get(device, torch.float32)
    if device == "cpu":
        keep_freed_memory()
    prepared = PreparedFGANet(network, dtype)
    if compiled:
        # Packed convolutions are compiled for one size at a time: torch cannot lay them out for any.
        prepared.network.compile(dynamic=False, options={"freezing": True})
    return prepared


def _device_type(network: FGANet) -> str:
    return next(network.parameters()).device.type


class PreparedFGANet(nn.Module):
    """See :func:`optimize_for_inference`; takes images of any size, with gradients switched off.

    It stays on the device and in the number format that it was made for, and has no state dict: its weights are
    packed. On a GPU it computes one image at a time, on one stream.
    """

    def __init__(self, network: FGANet, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.size_multiple = network.size_multiple
        with torch.inference_mode(False), torch.no_grad():
            network = copy.deepcopy(network).eval()
            network.decoder.deep_supervision = False
            network.decoder.seg_layers = network.decoder.seg_layers[:1]
            network.compute_dtypes, network.inference = {}, None
            by_kernels = _runs_kernels(network, dtype)
            device = _device_type(network)
            self.fine_dtype = dtype if by_kernels else image_dtype(dtype, device, fine=True)
            self.coarse_dtype = dtype if by_kernels else image_dtype(dtype, device, fine=False)
            # Rounding the frame itself would change most pixels; convolutions of a few channels take it as it is.
            unrounded = self.fine_dtype == torch.float16 and device == "cpu" and has_matrix_units()
            self.frame_dtype = torch.float32 if unrounded else self.fine_dtype
            self.network = self._prepared(network, by_kernels)
            self.graphs = CudaGraphs(self.network, dtype) if by_kernels else None

    def _prepared(self, network: FGANet, by_kernels: bool) -> FGANet:
        """Prepare stage by stage: the fine ones may be in a format of their own."""
        fine = _Formats(self.fine_dtype, self.dtype, by_kernels)
        coarse = _Formats(self.coarse_dtype, self.dtype, by_kernels)
        first_coarse = _FINE_ENCODER_STAGES
        for k, stage in enumerate(network.encoder.stages):
            network.encoder.stages[k] = _prepare(stage, fine if k < first_coarse else coarse)
        if self.fine_dtype != self.coarse_dtype and len(network.encoder.stages) > first_coarse:
            stage = cast(nn.Sequential, network.encoder.stages[first_coarse])
            stage.insert(1, _Rounding(self.coarse_dtype))  # behind the pooling
        first_fine = len(network.decoder.stages) - _FINE_DECODER_STAGES
        for k, stage in enumerate(network.decoder.stages):
            network.decoder.stages[k] = _prepare(stage, fine if k >= first_fine else coarse)
        network.decoder.seg_layers[0] = _prepare(network.decoder.seg_layers[0], fine)
        return network

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(batch, num_classes, H, W)``, float32, of an image ``(batch, input_channels, H, W)``."""
        # Triton launches on the current device, whichever the image is on.
        with torch.cuda.device_of(x), torch.autocast(x.device.type, enabled=False):
            if self.graphs is None or torch.cuda.is_current_stream_capturing():
                logits = self.network(x.to(self.frame_dtype).contiguous(memory_format=torch.channels_last))
            else:
                logits = run_padded(self.graphs, x, self.size_multiple)
        # A copy of its own: callers write into it.
        return logits.to(torch.float32, memory_format=torch.contiguous_format, copy=True)


class _Rounding(nn.Module):
    """Conversion to another number format."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return converted(x, self.dtype)


class _PreparedInstanceNorm(nn.Module):
    """InstanceNorm with scale and shift; see :func:`nnunet_fganet.network.norm.instance_norm`."""

    def __init__(self, norm: InstanceNorm2d, dtype: torch.dtype) -> None:
        super().__init__()
        self.eps = norm.eps
        # On CPUs float16 is what images are kept in, not what is computed in.
        dtype = torch.float32 if dtype == torch.float16 and norm.weight.device.type == "cpu" else dtype
        self.scale = norm.weight.detach().to(dtype).view(-1, 1, 1)
        self.shift = norm.bias.detach().to(dtype).view(-1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normalized = instance_norm(x.to(self.scale.dtype), self.eps)
        return torch.addcmul(self.shift, normalized, self.scale).to(x.dtype)


def _runs_kernels(network: FGANet, dtype: torch.dtype) -> bool:
    """Whether Triton's kernels compute all that torch's convolutions and products do not.

    torchvision's deformable convolution would not be recorded in a graph: it runs beside torch's stream.
    """
    device = next(network.parameters()).device
    if not runs_kernels(device, dtype):
        return False
    backends = {each.backend for each in network.modules() if isinstance(each, DeformConv2d)}
    return all(choose_backend(each, device.type, dtype) == "triton" for each in backends)


@dataclass(frozen=True)
class _Formats:
    """How a stage computes.

    Attributes
    ----------
    dtype, deform_dtype
        Of images and plain convolutions, and of deformable ones.
    by_kernels
        Whether Triton's kernels compute.
    """

    dtype: torch.dtype
    deform_dtype: torch.dtype
    by_kernels: bool


def _prepare(module: nn.Module, formats: _Formats) -> nn.Module:
    """Replace, from the inside out, what has a faster form."""
    if isinstance(module, SDA):
        if formats.by_kernels:
            return _gpu().GpuSDA(module, formats.dtype)
        return PreparedSDA(module, formats.dtype, formats.deform_dtype)
    if isinstance(module, nn.Conv2d):
        return pack_convolution(module, "none", formats.dtype)
    if isinstance(module, InstanceNorm2d):
        return _PreparedInstanceNorm(module, formats.dtype)
    if isinstance(module, nn.Sequential):
        module = pack_convolutions(module, formats.dtype)
    for name, child in module.named_children():
        module.add_module(name, _prepare(child, formats))
    return _join_parts(module, formats)


def _join_parts(module: nn.Module, formats: _Formats) -> nn.Module:
    """Replace what has a faster form once its parts are ready."""
    if isinstance(module, BGA):
        return _gpu().GpuBGA(module) if formats.by_kernels else PreparedBGA(module)
    if isinstance(module, DecoderStage):
        kind = _gpu().GpuDecoderStage if formats.by_kernels else PreparedDecoderStage
        return kind(module, formats.dtype)
    if isinstance(module, nn.MaxPool2d):
        return _gpu().GpuMaxPool2d() if formats.by_kernels else PreparedMaxPool2d()
    return module


def _gpu() -> ModuleType:
    """Only where there is Triton."""
    from nnunet_fganet.inference import gpu

    return gpu
