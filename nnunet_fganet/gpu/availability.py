"""Whether Triton can compile its kernels here."""

import importlib.util
from functools import cache

import torch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_OLDEST_GPU = (7, 0)  # CUDA's compute capability that Triton compiles for


@cache
def what_kernels_need() -> str | None:
    """What our kernels lack here, in a few words; None where they run."""
    if importlib.util.find_spec("triton") is None:
        return "Triton, which comes with torch's builds for NVIDIA GPUs on Linux"
    if torch.version.hip or not torch.cuda.is_available():
        return "an NVIDIA GPU that torch can use"
    if min(map(torch.cuda.get_device_capability, range(torch.cuda.device_count()))) < _OLDEST_GPU:
        return f"GPUs of compute capability {'.'.join(map(str, _OLDEST_GPU))} or later"
    try:
        _compile_a_kernel()
    except torch.OutOfMemoryError:  # says nothing
        raise
    except Exception as error:  # no C compiler, no Python.h, a cache folder that cannot be written to, no libcuda.so
        reason = str(error).partition("\n")[0] or type(error).__name__
        return f"something to compile a kernel with ({reason})"
    return None


@torch.compiler.assume_constant_result  # who records a graph does not try kernels
def has_triton() -> bool:
    """Whether Triton compiles its kernels here."""
    return what_kernels_need() is None


def runs_kernels(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels of this package compute on ``device`` in ``dtype``."""
    return device.type == "cuda" and dtype in DTYPES and has_triton()


def _compile_a_kernel() -> None:
    from nnunet_fganet.gpu.pointwise import max_pool2

    max_pool2(torch.zeros(1, 2, 2, 8, device="cuda"))
