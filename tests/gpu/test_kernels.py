"""The Triton kernels: in Triton's interpreter, which needs no GPU, and on a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="comes with torch's builds for GPUs only")

import kernel_checks

from nnunet_fganet.gpu.availability import has_triton
from nnunet_fganet.network.deform_conv import deform_conv2d

on_a_gpu = pytest.mark.skipif(not has_triton(), reason="needs a GPU that Triton compiles for")
CHECKS = Path(kernel_checks.__file__)


@pytest.mark.slow
def test_kernels_in_the_interpreter():
    # In a process of its own: Triton reads the variable when the kernels are defined.
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, CHECKS], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "all agree", done.stderr


@on_a_gpu
@pytest.mark.parametrize("check", kernel_checks.CHECKS)
def test_kernels_on_a_gpu(check):
    torch.manual_seed(0)
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        check("cuda")
    finally:
        torch.backends.cudnn.allow_tf32 = tf32


@on_a_gpu
@pytest.mark.parametrize("modulated", [True, False])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)])
def test_deformable_convolution_and_its_gradients(dtype, tolerance, modulated):
    torch.manual_seed(0)
    shapes = [(2, 64, 33, 47), (2, 18, 33, 47), (96, 64, 3, 3), (96,), (2, 9, 33, 47)][: 5 if modulated else 4]
    given = [torch.randn(shape, device="cuda") for shape in shapes]
    given[2] /= 24  # outputs near 1, and gradients that float16 holds
    given = [each.to(dtype) for each in given]
    results = []
    for backend, compute in (("torchvision", torch.float32), ("auto", dtype)):
        leaves = [each.to(compute).requires_grad_() for each in given]
        out = deform_conv2d(*leaves, backend=backend)
        results.append([out, *torch.autograd.grad(out, leaves, torch.ones_like(out) + out.detach())])
    for expected, found in zip(*results, strict=True):
        assert found.dtype == dtype
        assert (found.float() - expected).norm() / expected.norm() < tolerance


def test_the_cpu_is_not_supported():
    x, offset, weight = torch.randn(1, 2, 4, 4), torch.zeros(1, 18, 4, 4), torch.randn(2, 2, 3, 3)
    with pytest.raises(
        ValueError, match=r"'triton' does not support float32 on cpu; those that do: torchvision, gather"
    ):
        deform_conv2d(x, offset, weight, backend="triton")
