"""The Triton kernel in Triton's interpreter, which needs no GPU; on one, the same against torchvision there."""

import os
import subprocess
import sys

import pytest
import torch

from nnunet_fganet.network.deform_conv import deform_conv2d

pytest.importorskip("triton", reason="comes with torch's builds for GPUs only")

# In a process of its own: Triton reads the variable when the kernel is defined.
IN_THE_INTERPRETER = """
import itertools, torch
from nnunet_fganet.network.deform_conv import deform_conv2d
from nnunet_fganet.network.deform_triton import deform_conv2d_triton

torch.manual_seed(0)
SHAPES = [(1, 3, 5, 6, 4, 3), (2, 40, 4, 7, 70, 3), (1, 5, 9, 8, 2, 1), (1, 2, 1, 1, 3, 5)]
OFFSETS = {
    "random": lambda *s: 2 * torch.randn(*s), "far": lambda *s: 1e6 * torch.randn(*s), "zero": torch.zeros,
    "integer": lambda *s: torch.randn(*s).round(), "border": lambda *s: torch.full(s, -1.0),
    "infinite": lambda *s: torch.full(s, float("inf")), "minus_infinite": lambda *s: torch.full(s, -float("inf")),
}
for (batch, channels, height, width, out, k), kind, modulated in itertools.product(SHAPES, OFFSETS, (False, True)):
    x = torch.randn(batch, channels, height, width)
    offset = OFFSETS[kind](batch, 2 * k * k, height, width)
    mask = torch.rand(batch, k * k, height, width) if modulated else None
    weight, bias = torch.randn(out, channels, k, k), torch.randn(out) if modulated else None
    expected = deform_conv2d(x, offset, weight, bias, mask, "gather")
    found = deform_conv2d_triton(x, offset, weight, bias, mask)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, msg=f"{kind} {x.shape}")

offset = torch.zeros(1, 18, 4, 4)
offset[0, 0, 1, 2] = float("nan")
out = deform_conv2d_triton(torch.randn(1, 3, 4, 4), offset, torch.randn(2, 3, 3, 3), None, None)
assert out[0, :, 1, 2].isnan().all() and out.isnan().sum() == 2

SHAPES = [(1, 3, 5, 5), (1, 18, 5, 5), (2, 3, 3, 3), (2,), (1, 9, 5, 5)]
tensors = [torch.rand(shape) for shape in SHAPES]
gradients = []
for compute in (deform_conv2d_triton, lambda x, o, w, b, m: deform_conv2d(x, o, w, b, m, "torchvision")):
    leaves = [each.clone().requires_grad_() for each in tensors]
    compute(*leaves).square().sum().backward()
    gradients.append([leaf.grad for leaf in leaves])
for ours, theirs in zip(*gradients):
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
print("agrees")
"""


@pytest.mark.slow
def test_kernel_in_the_interpreter():
    done = subprocess.run(
        [sys.executable, "-c", IN_THE_INTERPRETER],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "agrees", done.stderr


def test_the_cpu_is_not_supported():
    x, offset, weight = torch.randn(1, 2, 4, 4), torch.zeros(1, 18, 4, 4), torch.randn(2, 2, 3, 3)
    with pytest.raises(
        ValueError, match=r"'triton' does not support float32 on cpu; those that do: torchvision, gather"
    ):
        deform_conv2d(x, offset, weight, backend="triton")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float16, 1e-2), (torch.bfloat16, 1e-2)])
def test_kernel_on_a_gpu(dtype, tolerance):
    torch.manual_seed(0)
    x, offset = torch.randn(2, 64, 33, 47, device="cuda"), 2 * torch.randn(2, 18, 33, 47, device="cuda")
    weight, bias = torch.randn(96, 64, 3, 3, device="cuda"), torch.randn(96, device="cuda")
    rounded = [each.to(dtype) for each in (x, offset, weight, bias)]
    expected = deform_conv2d(*(each.float() for each in rounded), backend="torchvision")
    found = deform_conv2d(*rounded, backend="triton").float()
    assert (found - expected).norm() / expected.norm() < tolerance
