"""Checks of the Triton kernels: on a GPU as they are, elsewhere in Triton's interpreter (run this file)."""

import itertools
import sys

import torch
from torch.nn import functional

from nnunet_fganet.compiled.operators import sampled_columns
from nnunet_fganet.gpu import attention, bilateral, pointwise, sampling, skeleton
from nnunet_fganet.inference import packing, prepared
from nnunet_fganet.inference.gpu import GpuConv2d
from nnunet_fganet.inference.packing import SLOPES
from nnunet_fganet.loss.skeleton import pooled_skeleton
from nnunet_fganet.network.deform_gather import channel_rows, positions
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.network.norm import image_norm, instance_norm
from nnunet_fganet.network.spatial_shift import DIRECTIONS, spatial_shift

OFFSETS = {
    "random": lambda *shape: 2 * torch.randn(*shape),
    "far": lambda *shape: 1e6 * torch.randn(*shape),
    "zero": torch.zeros,
    "integer": lambda *shape: torch.randn(*shape).round(),
    "border": lambda *shape: torch.full(shape, -1.0),
    "infinite": lambda *shape: torch.full(shape, float("inf")),
    "minus_infinite": lambda *shape: torch.full(shape, -float("inf")),
}
DTYPES = {torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 2e-2}  # and what rounding does to the results
SHAPES = [(2, 40, 5, 4), (1, 72, 1, 2), (1, 8, 17, 11)]
SAMPLED = [(1, 3, 5, 6, 3), (2, 150, 4, 9, 3), (1, 5, 9, 8, 1), (1, 2, 1, 1, 5)]
IMAGES = {
    "noise": torch.rand,
    "steps": lambda shape: torch.randint(0, 4, shape) / 4,  # many pixels hold the same minimum
    "binary": lambda shape: (torch.rand(shape) > 0.3).float(),
}
NETWORKS = {
    "released": {},
    "paper_text": {"modulated": True, "fusion_kernel_size": 1, "features_per_stage": (8, 16, 24, 48)},
    "without_sda": {"sda": False},
    "without_bga": {"bga": False},
    "instance_norm": {"norm": "instance"},
}


def rows(x):
    """Channels last, contiguous."""
    return x.permute(0, 2, 3, 1).contiguous()


def up(x):
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def close(found, expected, tolerance=1e-4):
    torch.testing.assert_close(found.cpu(), expected.cpu(), rtol=tolerance, atol=tolerance, equal_nan=True)


def check_samples_and_gradients(device):
    for (batch, channels, height, width, k), kind in itertools.product(SAMPLED, OFFSETS):
        modulated = kind == "random"
        x = torch.randn(batch, channels, height, width)
        mask = torch.rand(batch, k * k, height, width) if modulated else None
        taken = (channel_rows(x), *positions(OFFSETS[kind](batch, 2 * k * k, height, width), mask))
        leaves = [each if each is None else each.requires_grad_() for each in taken]
        columns = sampled_columns(*leaves, height, width)
        given = torch.randn(columns.shape)
        expected = torch.autograd.grad(columns, [each for each in leaves if each is not None], given)
        moved = [each if each is None else each.detach().to(device) for each in leaves]
        close(sampling.sample_columns(*moved, (height, width)), columns.detach())
        found = sampling.sample_gradients(*moved, (height, width), given.to(device))
        for ours, wanted in zip([each for each in found if each is not None], expected, strict=True):
            close(ours, wanted)


def check_nan(device):
    offset = torch.zeros(16, 9, 2, device=device)
    offset[6, 4, 0] = float("nan")
    x = torch.randn(16, 3, device=device)
    columns = sampling.sample_columns(x, offset, None, (4, 4))
    assert columns[6, 4].isnan().all() and columns.isnan().sum() == 3
    gradients = sampling.sample_gradients(x, offset, None, (4, 4), torch.ones_like(columns))
    assert all(each.isfinite().all() for each in gradients[:2])


def check_attention(device):
    for shape, dtype in itertools.product(SHAPES, DTYPES):
        x, given = (torch.randn(shape) + 3).to(dtype), (2 * torch.randn(shape) + 5).to(dtype)
        steps = torch.tensor(DIRECTIONS, dtype=torch.int32).repeat_interleave(shape[1] // len(DIRECTIONS), 0)
        found = attention.shift_norm_gelu(rows(x).to(device), steps.to(device))
        expected = functional.gelu(instance_norm(spatial_shift(x.double())))
        close(found.double(), rows(expected), DTYPES[dtype])
        found = attention.gate(rows(x).to(device), rows(given).to(device))
        close(found.double(), rows(x.double() * image_norm(given.double()).sigmoid()), DTYPES[dtype])


def check_small_deviations_from_a_large_mean(device):
    x, given = torch.ones(1, 16, 32, 32), 1000 + 0.1 * torch.randn(1, 16, 32, 32)
    found = attention.gate(rows(x).to(device), rows(given).to(device))
    close(found.double(), rows(image_norm(given.double()).sigmoid()), 1e-3)
    still = torch.zeros(16, 2, dtype=torch.int32)
    found = attention.shift_norm_gelu(rows(given).to(device), still.to(device))
    close(found.double(), rows(functional.gelu(instance_norm(given.double()))), 1e-2)


def check_joins(device):
    for (batch, channels, height, width), dtype in itertools.product(SHAPES, DTYPES):
        fine = torch.randn(batch, channels, 2 * height, 2 * width).to(dtype)
        gate, coarse, coarse_gate = torch.randn(3, batch, channels, height, width).to(dtype)
        gate_bias, coarse_bias = torch.randn(2, channels).to(dtype)
        found = rows(fine).to(device)
        others = (rows(gate), gate_bias, rows(coarse), coarse_bias, rows(coarse_gate))
        bilateral.gate_and_add(found, *(each.to(device) for each in others))
        joined = bilateral.join(rows(fine).to(device), rows(coarse).to(device))
        fine, gate, coarse, coarse_gate, gate_bias, coarse_bias = (
            each.float() for each in (fine, gate, coarse, coarse_gate, gate_bias, coarse_bias)
        )
        added = up((coarse + coarse_bias.view(-1, 1, 1)) * coarse_gate.sigmoid())
        expected = fine * up(gate + gate_bias.view(-1, 1, 1)).sigmoid() + added
        close(found.float(), rows(expected), DTYPES[dtype])
        close(joined.float(), rows(torch.cat((fine, up(coarse)), 1)), DTYPES[dtype])


def check_pointwise(device):
    for (batch, channels, height, width), dtype in itertools.product(SHAPES, DTYPES):
        x = torch.randn(batch, channels, 2 * height, 2 * width).to(dtype)
        bias = torch.randn(channels).to(dtype)
        x[0, 0, 0, 0], x[0, 0, 0, 1], x[0, 1, 1, 1] = float("inf"), -float("inf"), float("nan")
        for slope in (1.0, 0.0, 0.01):
            found = rows(x).to(device)
            pointwise.add_bias_and_activate(found, bias.to(device), slope)
            shifted = x.float() + bias.float().view(-1, 1, 1)
            expected = shifted.relu() if slope == 0 else functional.leaky_relu(shifted, slope)
            close(found.float(), rows(expected.to(dtype).float()), DTYPES[dtype])
        pooled = functional.max_pool2d(x.float(), 2)
        close(pointwise.max_pool2(rows(x).to(device)).float(), rows(pooled))


def check_skeletons(device):
    for shape, kind, iterations in itertools.product([(1, 1, 1, 7), (2, 1, 12, 9)], IMAGES, (0, 2)):
        x, given = IMAGES[kind](shape).requires_grad_(), torch.randn(shape)
        expected = pooled_skeleton(x, iterations)
        (expected_gradient,) = torch.autograd.grad(expected, x, given)
        moved = x.detach().to(device)
        close(skeleton.skeletonize(moved, iterations), expected.detach(), 1e-5)
        close(skeleton.skeleton_gradient(moved, iterations, given.to(device)), expected_gradient)


def network(**arguments):
    """A network with weights and statistics as after training: nothing is zero or one."""
    torch.manual_seed(0)
    built = FGANet(**{"input_channels": 2, "num_classes": 3, "features_per_stage": (8, 16, 24, 32), **arguments})
    built.apply(built.initialize)
    for name, weight in [*built.named_parameters(), *built.named_buffers()]:
        if "offset_conv.weight" in name:
            torch.nn.init.normal_(weight, std=0.05)
        elif name.endswith("bias") or "mean" in name:
            torch.nn.init.normal_(weight, std=0.3)
        elif weight.ndim == 1:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    return built.eval()


@torch.no_grad()
def check_convolutions(device):
    """Of one channel, too: torch cannot tell such an image's layout, and convolves with channels first."""
    for channels, k, bias, activation in itertools.product((1, 4), (1, 3), (True, False), SLOPES):
        conv = torch.nn.Conv2d(channels, 8, k, padding=k // 2, bias=bias)
        x = torch.randn(2, channels, 6, 7)
        expected = functional.leaky_relu(conv(x), SLOPES[activation])
        close(GpuConv2d(conv.to(device), activation, torch.float32)(x.to(device)), expected)


@torch.no_grad()
def check_networks(device):
    """On the CPU by the compiled loops' samples; those of the kernels have a check of their own."""
    for name, arguments in NETWORKS.items():
        channels = 1 if name == "released" else 2
        reference = network(input_channels=channels, **arguments)
        x = torch.randn(1, channels, 32, 24)
        expected = reference(x)
        found = prepared.optimize_for_inference(reference.to(device), torch.float32)(x.to(device))
        close(found / expected.abs().max(), expected / expected.abs().max(), 1e-3)


CHECKS = [
    check_samples_and_gradients,
    check_nan,
    check_attention,
    check_small_deviations_from_a_large_mean,
    check_joins,
    check_pointwise,
    check_skeletons,
    check_convolutions,
    check_networks,
]


def main():
    """All checks on the CPU: Triton interprets the kernels where TRITON_INTERPRET is 1."""
    packing.runs_kernels = prepared._runs_kernels = lambda *_: True
    prepared.CudaGraphs = lambda *_: None
    for check in CHECKS:
        torch.manual_seed(0)
        check("cpu")
    print("all agree")


if __name__ == "__main__":
    sys.exit(main())
