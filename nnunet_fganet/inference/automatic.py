"""Preparation that happens by itself, for programs that know nothing of it (``nnUNetv2_predict``)."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from nnunet_fganet.gpu.availability import runs_kernels
from nnunet_fganet.inference.prepared import PreparedFGANet, optimize_for_inference
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.network.weights import LoadedWeights, Versions, weight_versions

# Prepared networks that are kept, by device type: predicting with five folds (and "all") nnU-Net loads as many
# state dicts for every frame. Preparing costs 0.2 s and 0.5 GB of weights on a CPU, as much time as a small frame, and
# more time than a frame on a GPU, where kernels are recorded, too.
_KEPT = {"cpu": 1, "cuda": 6}


@dataclass(frozen=True)
class _Ready:
    prepared: PreparedFGANet
    device: torch.device
    weights: LoadedWeights | None


class AutomaticInference:
    """Prepares a network at its first prediction, and again only when its weights have changed.

    Set as :attr:`nnunet_fganet.network.fganet.FGANet.inference`.
    """

    def __init__(self) -> None:
        self._ready: list[_Ready] = []
        self._current: _Ready | None = None
        self._versions: Versions | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles of a network start unprepared."""
        return AutomaticInference, ()

    def __call__(self, network: FGANet, x: torch.Tensor) -> torch.Tensor | None:
        """Logits ``(batch, num_classes, H, W)``; None where the network itself must compute.

        That is in training (of any layer: Monte-Carlo dropout), with gradients or deep supervision, while
        a graph is recorded, on GPUs without Triton, and while somebody listens to its layers (hooks).
        """
        if network.training or torch.is_grad_enabled():
            self._forget()
            return None
        if not self._applies(network, x):
            return None
        versions = weight_versions(network)
        if versions is None:
            return None
        dtype = _compute_dtype(network, x.device.type)
        if self._current is None or versions != self._versions or dtype != self._current.prepared.dtype:
            weights = network.loaded_weights(versions)
            self._current = self._find(weights, x.device, dtype) or self._prepare(network, weights, x.device, dtype)
            self._versions = versions
        return self._current.prepared(x)

    def _forget(self) -> None:
        self._ready, self._current, self._versions = [], None, None

    def _find(self, weights: LoadedWeights | None, device: torch.device, dtype: torch.dtype) -> _Ready | None:
        """What was prepared from the same state dict before."""
        for ready in self._ready:
            same_kind = ready.device == device and ready.prepared.dtype == dtype
            if same_kind and weights is not None and ready.weights is not None and ready.weights.has_source_of(weights):
                return ready
        return None

    def _prepare(
        self, network: FGANet, weights: LoadedWeights | None, device: torch.device, dtype: torch.dtype
    ) -> _Ready:
        is_first = self._current is None
        start = time.perf_counter()
        ready = _Ready(optimize_for_inference(network, dtype), device, weights)
        findable = [each for each in self._ready if each.weights is not None and each.weights.has_source()]
        self._ready = [*findable, ready][-_KEPT[device.type] :]
        name = str(dtype).removeprefix("torch.")
        if is_first:  # with several folds the weights change before every frame
            print(f"FGA-Net prepared for inference in {name} ({time.perf_counter() - start:.1f} s)", flush=True)
        return ready

    @staticmethod
    def _applies(network: FGANet, x: torch.Tensor) -> bool:
        if x.device.type not in _KEPT:
            return False
        if torch.jit.is_tracing() or x.dtype != torch.float32 or network.decoder.deep_supervision:
            return False
        if x.device.type != "cpu" and not runs_kernels(x.device, _compute_dtype(network, x.device.type)):
            return False
        return not any(
            module.training or module._forward_hooks or module._forward_pre_hooks for module in network.modules()
        )


def _compute_dtype(network: FGANet, device: str) -> torch.dtype:
    """What the network itself would compute in."""
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return network.compute_dtypes.get(device, autocast)
