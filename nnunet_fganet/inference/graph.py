"""A network's kernels as one CUDA graph: launched one by one they take longer to launch than to run."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import torch

_WARM_UP = 3  # images: kernels are compiled, and cuDNN tries its convolutions
_MOST_SIZES = 8  # that graphs are kept for


@contextlib.contextmanager
def _trying_convolutions() -> Iterator[None]:
    """Let cuDNN take the fastest of its ways to convolve, everything else as the caller has set it."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all recordings on a device: freed memory is kept by stream."""
    return torch.cuda.Stream(device)


@dataclass(frozen=True)
class _Recording:
    """What a graph reads and writes, at addresses that never change."""

    graph: torch.cuda.CUDAGraph
    image: torch.Tensor
    output: torch.Tensor


class CudaGraphs:
    """Records what a network does to the first image of each size, and replays it for the following ones.

    Graphs share their memory, so one image is computed at a time, on one stream, and the last few sizes are kept.

    Parameters
    ----------
    network
        Takes an image and returns a tensor; what it does must not depend on the image's values.
    dtype
        Of the images that the network takes, channels last.
    """

    def __init__(self, network: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype) -> None:
        self.network = network
        self.dtype = dtype
        self._recordings: dict[torch.Size, _Recording] = {}
        self._pool: Any = None  # torch's handle of their memory
        self._lock = Lock()

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Output for an image ``(batch, channels, H, W)`` on a GPU, float32."""
        with self._lock:
            recording = self._recordings.pop(image.shape, None) or self._record(image)
            self._recordings[image.shape] = recording  # last now
            recording.image.copy_(image)
            recording.graph.replay()
            # The graph writes into its output again.
            return recording.output.to(torch.float32, memory_format=torch.contiguous_format, copy=True)

    def _record(self, image: torch.Tensor) -> _Recording:
        if len(self._recordings) >= _MOST_SIZES:
            del self._recordings[next(iter(self._recordings))]
        # Buffers outlive the inference mode that a caller may be in.
        with torch.inference_mode(False), torch.no_grad(), _trying_convolutions():
            still = torch.empty_like(image, dtype=self.dtype, memory_format=torch.channels_last).copy_(image)
            stream = _recording_stream(image.device)
            stream.wait_stream(torch.cuda.current_stream(image.device))
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    self.network(still)
            torch.cuda.current_stream(image.device).wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may allocate meanwhile: nnU-Net pins the memory of the next frames.
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                output = self.network(still)
        self._pool = graph.pool()
        return _Recording(graph, still, output)
