"""FGA-Net behind ``torch.compile`` on a GPU, where nnU-Net trains with it: right or wrong, how long, how fast.

    python benchmarks/gpu_compile.py step|frame BACKEND [BATCH [SIZE [DEVICE]]]

With BACKEND (torchvision or triton) for the deformable convolutions: a training step (autocast, six-output loss,
backward, update) of BATCH patches (2) of SIZE x SIZE px (256), eager and compiled; or a frame of SIZE x SIZE px, in
both number formats and each mode of ``torch.compile``. Compared with the eager network in float32 (no TF32) by
torchvision's convolution. DEVICE (cuda) may be cpu, to try the script itself.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

import torch

from nnunet_fganet.benchmark.inference import mask_agreement, with_backend
from nnunet_fganet.benchmark.network import call_wire, frame_and_label, trained_like_network
from nnunet_fganet.benchmark.training import cosine_similarities, gradients_by_layer, layer_gradients, make_optimizer
from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.network.fganet import FGANet

RUNS = 20
LOSS_SCALE = 2**10  # float16 has no room for small gradients, as nnU-Net's GradScaler knows
MODES = ("eager", "default", "reduce-overhead")


def main(what: str, backend: str, batch: str = "2", size: str = "256", device: str = "cuda") -> None:
    """Print the rows."""
    frames = [frame_and_label(int(size), seed) for seed in range(int(batch))]
    images, labels = (torch.cat(each).to(device) for each in zip(*frames, strict=True))
    if what == "step":
        _steps(backend, images, labels)
    else:
        _frames(trained_like_network().to(device), backend, images[:1], labels[:1])


def _steps(backend: str, images: torch.Tensor, labels: torch.Tensor) -> None:
    loss = FGANetLoss(regions=True)
    with _without_tf32():
        expected = layer_gradients(_training_network("torchvision", images), loss, images, labels)
    print(f"{'a training step':40}{'first, s':>10}{'then, ms':>10}{'cosine similarity':>20}")
    for mode in MODES[:2]:
        _print_row(f"{backend}, {mode}", partial(_step, backend, mode, loss, images, labels, expected))


def _print_row(name: str, row: Callable[[], str]) -> None:
    try:
        print(f"{name:40}{row()}", flush=True)
    except Exception as error:  # the other rows count too
        print(f"{name:40}{type(error).__name__}: {str(error)[:300]}", flush=True)


def _step(
    backend: str,
    mode: str,
    loss: FGANetLoss,
    images: torch.Tensor,
    labels: torch.Tensor,
    expected: dict[str, torch.Tensor],
) -> str:
    network, device = _training_network(backend, images), images.device
    called = network if mode == "eager" else torch.compile(network)
    optimizer = make_optimizer(network, device, is_reference=False)
    half = torch.float16 if device.type == "cuda" else torch.bfloat16

    def call() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, half):
            value = LOSS_SCALE * loss(called(images), labels)
        value.backward()

    first = _seconds(call, device)
    gradients = gradients_by_layer(network)
    similarity = min(cosine_similarities(gradients, expected).values())

    def step() -> None:
        call()
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.grad /= LOSS_SCALE
        optimizer.step()

    return f"{first:>10.1f}{_milliseconds(step, device):>10.1f}{similarity:>20.5f}"


def _training_network(backend: str, images: torch.Tensor) -> FGANet:
    network = with_backend(trained_like_network(), backend).to(images.device).train()
    network.decoder.deep_supervision = True
    return network.to(memory_format=torch.channels_last)  # as nnUNetTrainerFGANet has it


@torch.no_grad()
def _frames(network: FGANet, backend: str, image: torch.Tensor, label: torch.Tensor) -> None:
    call_wire(network, image, label)
    with _without_tf32():
        expected = with_backend(network, "torchvision")(image).cpu()
    print(f"{'a frame':40}{'first, s':>10}{'then, ms':>10}{'agreement':>12}{'largest difference':>20}")
    for dtype in (torch.float32, torch.float16 if image.device.type == "cuda" else torch.bfloat16):
        for mode in MODES:
            name = f"{str(dtype).removeprefix('torch.')}, {backend}, {mode}"
            _print_row(name, partial(_frame, network, backend, mode, dtype, image, expected))


def _frame(
    network: FGANet, backend: str, mode: str, dtype: torch.dtype, image: torch.Tensor, expected: torch.Tensor
) -> str:
    torch.compiler.reset()
    copied = with_backend(network, backend)
    called = copied if mode == "eager" else torch.compile(copied, mode=mode)
    found = []

    def call() -> None:
        with torch.autocast(image.device.type, dtype, enabled=dtype != torch.float32):
            found[:] = [called(image).float().clone()]

    first = _seconds(call, image.device)
    milliseconds = _milliseconds(call, image.device)
    difference = (found[0].cpu() - expected).abs().max().item()
    return f"{first:>10.1f}{milliseconds:>10.1f}{mask_agreement(found[0], expected):>12.4f}{difference:>20.4f}"


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Convolutions in float32 as it is; torch's products are, unless it is told otherwise."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _seconds(call: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _milliseconds(call: Callable[[], None], device: torch.device) -> float:
    for _ in range(3):
        call()
    return 1e3 * median(_seconds(call, device) for _ in range(RUNS))


if __name__ == "__main__":
    if len(sys.argv) not in range(3, 7) or sys.argv[1] not in ("step", "frame"):
        sys.exit(__doc__)
    main(*sys.argv[1:])
