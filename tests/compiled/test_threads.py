import subprocess
import sys

import numpy as np
import pytest
import torch
from numba import carray, cfunc

from nnunet_fganet.compiled import threads
from nnunet_fganet.compiled.threads import (
    arguments,
    finish_part,
    float_arguments,
    next_part,
    parts,
    pointer,
    run_parts,
)

both_kinds_of_threads = pytest.mark.parametrize("plain", [False, True], ids=["torchs_threads", "plain_threads"])


@cfunc("void(voidptr)", nopython=True)
def count(data):
    """Add 1 to the entry of each part, and the float argument to a last one."""
    out = carray(pointer(arguments(data, 2)[0]), (parts(data),), np.float64)
    amount = float_arguments(data, 2)[1]
    part = next_part(data)
    while part < parts(data):
        out[part] += amount
        finish_part(data)
        part = next_part(data)


@cfunc("void(voidptr)", nopython=True)
def fail_once(data):
    """Fail in the middle of part 3, as where memory is short."""
    part = next_part(data)
    while part < parts(data):
        if part == 3:
            raise MemoryError
        finish_part(data)
        part = next_part(data)


@pytest.mark.parametrize("number", [0, 1, 2, 1000])
@both_kinds_of_threads
def test_every_part_is_done_once(monkeypatch, number, plain):
    if plain:
        monkeypatch.setattr(threads, "_team", lambda: threads._plain_threads)
    out = np.zeros(number)
    run_parts(count, number, out.ctypes.data, 1.5)
    np.testing.assert_array_equal(out, 1.5)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Numba's: what it prints
@both_kinds_of_threads
def test_a_part_that_failed_is_an_error(monkeypatch, plain):
    if plain:
        monkeypatch.setattr(threads, "_team", lambda: threads._plain_threads)
    with pytest.raises(MemoryError, match="of its 10 parts"):
        run_parts(fail_once, 10)


def test_one_thread_is_enough(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    out = np.zeros(10)
    run_parts(count, 10, out.ctypes.data, 1.0)
    np.testing.assert_array_equal(out, 1)


def test_torchs_own_runtime_is_found():
    runtime = threads._openmp_runtime()
    assert runtime is not None and "torch" in runtime


def test_loops_run_beside_torch_and_in_several_threads_of_a_program():
    program = """
import threading, torch
from nnunet_fganet.network.deform_conv import deform_conv2d
def work(seed):
    g = torch.Generator().manual_seed(seed)
    x, offset, weight = (torch.randn(*s, generator=g) for s in ((1, 64, 32, 32), (1, 18, 32, 32), (8, 64, 3, 3)))
    expected = deform_conv2d(x, offset, weight, backend="torchvision")
    for _ in range(20):
        torch.testing.assert_close(deform_conv2d(x, offset, weight), expected, rtol=1e-3, atol=1e-3)
        x @ x
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print("done")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n" and not done.stderr, done.stderr
