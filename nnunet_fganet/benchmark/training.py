"""Ways to compute one training step, and its loss alone."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.allocator import keep_freed_memory
from nnunet_fganet.benchmark.inference import with_backend
from nnunet_fganet.benchmark.limit import convolution_throughput
from nnunet_fganet.benchmark.measuring import Measurement, measure
from nnunet_fganet.benchmark.network import (
    frame_and_label,
    trained_like_network,
    with_dropout,
    with_torchs_convolutions,
)
from nnunet_fganet.benchmark.rows import Row, make_row
from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.loss.functional import soft_cldice, soft_dice
from nnunet_fganet.loss.skeleton import pooled_skeleton
from nnunet_fganet.network.counting import count_operations
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.training.sgd import make_sgd

REFERENCE = "train-reference"
BATCH = 2
LEARNING_RATE, MOMENTUM = 1e-3, 0.9
DROPOUT = 0.2  # as released; gradients are compared without
LOSS_BATCH, LOSS_SCALE = 8, 2  # the loss alone: larger batches of larger patches
# A backward pass costs as much arithmetic as two forward passes: once for the input, once for the weights.
PASSES = 3


class ReferenceLoss(nn.Module):
    """The same loss from torch's pooling, with the label made ready anew for every output, as in the released code."""

    ALPHA, ITERATIONS = 0.25, 10  # FGANetLoss's defaults

    def forward(self, outputs: list[torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        """See :class:`nnunet_fganet.loss.fganet_loss.FGANetLoss`."""
        return torch.stack([0.5**i * self._one_output(output, label) for i, output in enumerate(outputs)]).sum()

    def _one_output(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        probability = logits.float().sigmoid()
        skeleton, label_skeleton = (pooled_skeleton(each, self.ITERATIONS) for each in (probability, label))
        dice = soft_dice((probability * label).sum(), probability.square().sum(), label.sum())
        cldice = soft_cldice(
            (skeleton * label).sum(), skeleton.sum(), (label_skeleton * probability).sum(), label_skeleton.sum()
        )
        entropy = functional.binary_cross_entropy_with_logits(logits.float(), label)
        return (1 - self.ALPHA) * (1 - dice) + self.ALPHA * (1 - cldice) + entropy


@dataclass(frozen=True)
class _Step:
    name: str
    dtype: torch.dtype
    backend: str
    loss: nn.Module


def training_rows(sizes: list[int], runs: int, device: str) -> Iterator[Row]:
    """Measure a step (forward, six-output loss, backward, update) on two images, then the loss alone, for each size.

    On CPUs all of them keep freed memory, as nnUNetTrainerFGANet does: it cannot be taken back for the next size.
    """
    if device == "cpu":
        keep_freed_memory()
    network = trained_like_network()
    loss = FGANetLoss(regions=True)
    reference_loss = ReferenceLoss()
    half = torch.float16 if device == "cuda" else torch.bfloat16
    steps = [
        _Step(REFERENCE, torch.float32, "torchvision", reference_loss),
        _Step("train-float32", torch.float32, "auto", loss),
        _Step(f"train-{str(half).removeprefix('torch.')}", half, "auto", loss),
    ]
    throughput = {step.dtype: convolution_throughput(device, step.dtype) for step in steps}
    for size in sizes:
        images, labels = _batch(BATCH, size, device)
        flops = PASSES * BATCH * count_operations(network, 1, (size, size)).flops
        reference = expected = None
        for step in steps:
            build = partial(_training, _built(with_dropout(network, DROPOUT), step, device), step, images, labels)
            measured = measure(build, runs, device)
            reference = reference or measured
            gradients = layer_gradients(_built(network, step, device), step.loss, images, labels)
            expected = expected or gradients
            yield make_row(
                step.name,
                device,
                str(step.dtype).removeprefix("torch."),
                step.backend,
                size,
                measured,
                reference,
                flops / throughput[step.dtype] * 1e3,
                min(cosine_similarities(gradients, expected).values()),
            )
        yield from _loss_rows(reference_loss, loss, LOSS_SCALE * size, runs, device)


def cosine_similarities(gradients: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, float]:
    """Of the gradients of each layer; layers whose gradient is zero on both sides are left out."""
    return {
        name: float(functional.cosine_similarity(gradients[name].double(), expected[name].double(), dim=0))
        for name in expected
        if expected[name].any() or gradients[name].any()
    }


def layer_gradients(
    network: FGANet, loss: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Gradient of each layer, weight and bias as one vector."""
    loss(network(images), labels).backward()
    return gradients_by_layer(network)


def gradients_by_layer(network: FGANet) -> dict[str, torch.Tensor]:
    """Gradients that the layers hold, weight and bias as one vector each."""
    return {
        name: torch.cat([parameter.grad.flatten() for parameter in module.parameters(recurse=False)]).cpu()
        for name, module in network.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    }


def _batch(batch: int, size: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*(frame_and_label(size, seed) for seed in range(batch)), strict=True)
    return torch.cat(images).to(device), torch.cat(labels).to(device)


def _built(network: FGANet, step: _Step, device: str) -> FGANet:
    built = with_backend(network, step.backend).to(device).train()
    built.decoder.deep_supervision = True
    built.compute_dtypes = {device: step.dtype}
    if step.backend == "torchvision":
        return with_torchs_convolutions(built)
    return built.to(memory_format=torch.channels_last)


def make_optimizer(network: nn.Module, device: torch.device, is_reference: bool) -> torch.optim.SGD:
    """As nnUNetTrainerFGANet makes it or, for the reference, as nnU-Net does."""
    if is_reference:
        return torch.optim.SGD(network.parameters(), LEARNING_RATE, MOMENTUM, nesterov=True, fused=False)
    return make_sgd(network.parameters(), device, LEARNING_RATE, MOMENTUM, weight_decay=0)


def _training(network: FGANet, step: _Step, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], float]:
    network = copy.deepcopy(network)
    optimizer = make_optimizer(network, images.device, is_reference=step.name == REFERENCE)

    def call() -> float:
        optimizer.zero_grad()
        loss = step.loss(network(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return call


def _loss_rows(reference_loss: nn.Module, loss: nn.Module, size: int, runs: int, device: str) -> Iterator[Row]:
    outputs, labels = _loss_input(size, device)
    reference: Measurement | None = None
    for name, each in (("loss-reference", reference_loss), ("loss-float32", loss)):
        measured = measure(partial(_loss_and_gradient, each, outputs, labels), runs, device)
        reference = reference or measured
        difference = abs(measured.result - reference.result) / abs(reference.result)
        yield make_row(name, device, "float32", "", size, measured, reference, None, 1 - difference)


def _loss_input(size: int, device: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Six outputs that are near the label, as a trained network's are."""
    labels = _batch(LOSS_BATCH, size, device)[1]
    generator = torch.Generator(device).manual_seed(0)
    noise = [torch.randn(labels.shape, generator=generator, device=device) for _ in range(6)]
    return [(6 * labels - 3 + each).requires_grad_() for each in noise], labels


def _loss_and_gradient(loss: nn.Module, outputs: list[torch.Tensor], labels: torch.Tensor) -> Callable[[], float]:
    def call() -> float:
        for output in outputs:
            output.grad = None
        value = loss(outputs, labels)
        value.backward()
        return value.item()

    return call
