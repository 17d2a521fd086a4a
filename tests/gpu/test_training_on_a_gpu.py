"""What a training on a GPU computes: the loss's kernels, and the network behind ``torch.compile``."""

import pytest
import torch

pytest.importorskip("triton", reason="comes with torch's builds for GPUs only")

import kernel_checks

from nnunet_fganet.gpu.availability import has_triton
from nnunet_fganet.loss import skeleton
from nnunet_fganet.loss.fganet_loss import FGANetLoss

on_a_gpu = pytest.mark.skipif(not has_triton(), reason="needs a GPU that Triton compiles for")


def loss_and_gradients(device, outputs, target):
    leaves = [each.to(device).requires_grad_() for each in outputs]
    loss = FGANetLoss(regions=True)(leaves, target.to(device))
    return [loss.detach(), *torch.autograd.grad(loss, leaves)]


@on_a_gpu
def test_the_loss_agrees_with_that_of_a_cpu():
    torch.manual_seed(0)
    outputs = [3 * torch.randn(2, 1, 65, 48) for _ in range(6)]
    target = (torch.rand(2, 1, 65, 48) > 0.9).float()
    for expected, found in zip(*(loss_and_gradients(each, outputs, target) for each in ("cpu", "cuda")), strict=True):
        kernel_checks.close(found, expected, 1e-5)


@on_a_gpu
def test_skeletons_keep_no_image_between_their_erosions():
    x = torch.rand(4, 1, 512, 512, device="cuda", requires_grad=True)
    megabytes = x.numel() * x.element_size() / 2**20
    for compute, least, most in ((skeleton.pooled_skeleton, 20, None), (skeleton.soft_skeleton, 0, 2)):
        before = torch.cuda.memory_allocated()
        kept = compute(x, 10)
        copies = (torch.cuda.memory_allocated() - before) / 2**20 / megabytes
        assert copies >= least and (most is None or copies <= most)
        del kept


@on_a_gpu
@pytest.mark.slow
def test_gradients_behind_torch_compile():
    """By the backend that ``auto`` takes there: our kernels."""
    torch.manual_seed(0)
    x, target = torch.randn(2, 2, 64, 64, device="cuda"), (torch.rand(2, 3, 64, 64, device="cuda") > 0.9).float()
    loss, results = FGANetLoss(regions=True), []
    for compile_it in (False, True):
        network = kernel_checks.network(deep_supervision=True, dropout=0.0).cuda().train()
        network = network.to(memory_format=torch.channels_last)
        called = torch.compile(network) if compile_it else network
        with torch.autocast("cuda", torch.float16, enabled=compile_it):
            value = loss(called(x), target)
        (1024 * value).backward()
        results.append([each.grad.flatten() for each in network.parameters() if each.grad is not None])
    for expected, found in zip(*results, strict=True):
        if expected.norm() > 1e-3:  # biases before a normalisation have none but what is rounded
            assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.98
