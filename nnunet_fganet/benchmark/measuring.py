"""Times and memory of one call."""

import ctypes
import gc
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

WARM_UP = 2
_STATUS, _CLEAR_REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): resets the peak of the resident memory
MEGABYTE = 1e6


@dataclass(frozen=True)
class Measurement:
    """Times of all runs in ms, fastest first, and memory in MB: held after building, and at most while running.

    ``peak_mb`` is None where the system does not tell (it is Linux that does, and CUDA). ``result``
    is what the last run returned.
    """

    times: list[float]
    peak_mb: float | None
    result: Any

    @property
    def milliseconds(self) -> float:
        """Median time."""
        return median(self.times)


def measure(build: Callable[[], Callable[[], Any]], runs: int, device: str) -> Measurement:
    """Build something, call it until it is warm, then time ``runs`` calls."""
    _return_freed_memory()
    before = _start_of_peak(device)
    call = build()
    for _ in range(WARM_UP):
        result = call()
    _wait(device)
    _start_of_peak(device)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        result = call()
        _wait(device)
        times.append((time.perf_counter() - start) * 1e3)
    peak = _peak(device)
    return Measurement(sorted(times), None if peak is None or before is None else peak - before, result)


def _wait(device: str) -> None:
    """Wait for what a GPU has queued: calls return before it is computed."""
    if device == "cuda":
        torch.cuda.synchronize()


def _return_freed_memory() -> None:
    """Start from what is in use, not from what earlier rows have freed."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _start_of_peak(device: str) -> float | None:
    """Forget the peak so far; returns the memory in use, MB."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / MEGABYTE
    try:
        _CLEAR_REFERENCES.write_text(_RESET_PEAK)
    except OSError:
        return None
    return _status("VmRSS")


def _peak(device: str) -> float | None:
    return torch.cuda.max_memory_allocated() / MEGABYTE if device == "cuda" else _status("VmHWM")


def _status(entry: str) -> float | None:
    """An entry of ``/proc/self/status``, which is in kB, in MB."""
    if not _STATUS.exists():
        return None
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(entry))
    return int(line.split()[1]) * 1024 / MEGABYTE
