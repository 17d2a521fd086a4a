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


@cache
@torch.compiler.assume_constant_result  # who records a graph does not look for compilers; torch looks through the cache
def has_triton() -> bool:
    """Whether there is a GPU that Triton compiles for, and what it builds its launchers with: C compiler, Python.h."""
    if importlib.util.find_spec("triton") is None or not torch.cuda.is_available():
        return False
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    return torch.cuda.get_device_capability() >= _OLDEST_GPU and compiler is not None and headers.is_file()


def runs_kernels(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels of this package compute on ``device`` in ``dtype``."""
    return device.type == "cuda" and dtype in DTYPES and has_triton()
