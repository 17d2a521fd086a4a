"""Whether Triton can compile its kernels here."""

import importlib.util
import os
import shutil
import sysconfig
from functools import cache
from pathlib import Path

import torch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_OLDEST_GPU = (7, 0)  # CUDA's compute capability that Triton compiles for


def what_triton_lacks() -> str | None:
    """What keeps Triton from compiling its kernels and their launchers, in a few words; None where nothing does."""
    if importlib.util.find_spec("triton") is None:
        return "Triton, which comes with torch's builds for NVIDIA GPUs on Linux"
    if not torch.cuda.is_available():
        return "a GPU that torch can use"
    if torch.cuda.get_device_capability() < _OLDEST_GPU:
        return f"a GPU of compute capability {'.'.join(map(str, _OLDEST_GPU))}"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "a C compiler"
    headers = Path(sysconfig.get_paths()["include"])
    return None if (headers / "Python.h").is_file() else f"Python's header files ({headers}/Python.h)"


@cache
@torch.compiler.assume_constant_result  # who records a graph does not look for compilers; torch looks through the cache
def has_triton() -> bool:
    """Whether Triton compiles its kernels here."""
    return what_triton_lacks() is None


def runs_kernels(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels of this package compute on ``device`` in ``dtype``."""
    return device.type == "cuda" and dtype in DTYPES and has_triton()
