"""Convolutions together with what follows them: fewer passes over the images of a training on a CPU."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from nnunet_fganet.compiled.batch_norm import Activation, channel_moments, normalize
from nnunet_fganet.compiled.batch_norm_gradient import normalize_gradients
from nnunet_fganet.network.conv import Conv2d, Way
from nnunet_fganet.network.deform_gather import channel_rows
from nnunet_fganet.network.dropout import Dropout
from nnunet_fganet.network.layout import image_rows
from nnunet_fganet.network.rounded import exact, handed_on, image_results, without_exact

_FOLLOWERS = ((nn.BatchNorm2d,), (Dropout,), (nn.LeakyReLU, nn.ReLU))


class NormalizedConvolutions(nn.Sequential):
    """``torch.nn.Sequential`` of convolutions, each with the BatchNorm, dropout and (Leaky)ReLU that follow it.

    Where a training on a CPU computes one of our convolutions in a way of its own, these are a part of it: forward they
    read an image twice and write it once, back they read it twice with its gradient, which they hand on in the dtype
    that the convolution's gradients are computed in. One by one they would take two and a half times as many passes,
    each of which takes as long as a convolution in bfloat16. Results are the same but for rounding, and the same
    entries are dropped. In bfloat16 the image that comes out is :mod:`.rounded`. No second gradients.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images ``(batch, channels, height, width)`` to what comes of the last module."""
        recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if not self.training or recorded or x.device.type != "cpu":
            return cast(torch.Tensor, super().forward(x))
        modules = list(self)
        while modules:
            steps = _steps(modules, x)
            if steps:
                modules = modules[sum(each.modules for each in steps) :]
                x = _computed(steps, x)
            else:
                x = modules.pop(0)(x)
        return x


@dataclass(frozen=True)
class _Step:
    """A convolution that is computed together with what follows it.

    Attributes
    ----------
    way
        How it is computed.
    norm, dropout, slope
        What follows: dropout may be none, and a slope of 1 is no LeakyReLU.
    modules
        How many these are.
    """

    way: Way
    norm: nn.BatchNorm2d
    dropout: Dropout | None
    slope: float
    modules: int

    @property
    def parameters(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.way.conv.weight, self.norm.weight, self.norm.bias

    def activation(self) -> Activation:
        """With new numbers for dropout."""
        return Activation(self.slope, *(self.dropout.draw() if self.dropout is not None else (0, 0)))


def _steps(modules: list[nn.Module], x: torch.Tensor) -> list[_Step]:
    """What of the modules, from the first one on, is computed in such steps."""
    steps: list[_Step] = []
    while modules:
        step = _step(modules, x)
        if step is None:
            break
        steps.append(step)
        modules = modules[step.modules :]
    return steps


def _step(modules: list[nn.Module], x: torch.Tensor) -> _Step | None:
    conv, *followers = modules[: 1 + _count_followers(modules)]
    if not (isinstance(conv, Conv2d) and followers and conv.bias is None and all(map(is_plain, (conv, *followers)))):
        return None
    norm = cast(nn.BatchNorm2d, followers[0])
    follows_batch = norm.training and norm.affine and norm.track_running_stats and norm.momentum is not None
    way = conv.way(x) if follows_batch and norm.weight.dtype == torch.float32 else None
    if way is None:
        return None
    dropout, slope = None, 1.0
    for module in followers[1:]:
        if isinstance(module, Dropout):
            dropout = module if _drops(module) else None
        else:
            slope = module.negative_slope if isinstance(module, nn.LeakyReLU) else 0.0
    return _Step(way, norm, dropout, slope, 1 + len(followers))


def _count_followers(modules: list[nn.Module]) -> int:
    """How many of the modules after the first one are a BatchNorm and what follows it, in this order."""
    count = 0
    for kinds in _FOLLOWERS:
        is_next = 1 + count < len(modules) and type(modules[1 + count]) in kinds
        if count == 0 and not is_next:
            return 0
        count += is_next
    return count


def is_plain(module: nn.Module) -> bool:
    """Whether nothing but its ``forward`` happens in a call, and what that does is known here."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return not any(hooks) and (not isinstance(module, Dropout) or not _drops(module) or module.draws_numbers)


def _drops(dropout: Dropout) -> bool:
    return dropout.training and dropout.p > 0


def _computed(steps: list[_Step], x: torch.Tensor) -> torch.Tensor:
    parameters = [each for step in steps for each in step.parameters]
    with torch.autocast("cpu", enabled=False):
        return handed_on(*_Normalized.apply(x, exact(x), steps, *parameters))


class _Normalized(torch.autograd.Function):
    """Steps one after the other; between two of them, gradients stay in the dtype that they are computed in."""

    @staticmethod
    def forward(
        ctx: Any, given: torch.Tensor, x: torch.Tensor, steps: list[_Step], *parameters: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        ctx.dtype, ctx.steps, saved = given.dtype, [], []
        # Both gradients of a convolution want its images in this dtype, and nothing else keeps them in float32.
        rounded: torch.Tensor | None = without_exact(given) if given.dtype == torch.bfloat16 else None
        for number, step in enumerate(steps):
            conv_weight, weight, bias = parameters[3 * number : 3 * number + 3]
            dtype = step.way.dtype_of_gradients
            rounded_weight = step.way.rounded_weight(conv_weight)
            convolved = step.way.output(x, conv_weight, None, rounded_weight)
            rows, affine, activation = channel_rows(convolved), torch.stack((weight, bias)), step.activation()
            moments = _moments(step.norm, rows)
            saved += [x.to(dtype) if rounded is None or dtype != rounded.dtype else rounded]
            saved += [conv_weight if rounded_weight is None else rounded_weight, rows, moments, affine]
            ctx.steps.append((step.way, step.norm.eps, activation))
            rounds = steps[min(number + 1, len(steps) - 1)].way.dtype_of_gradients == torch.bfloat16
            out, copy = normalize(rows, moments, affine, step.norm.eps, activation, rounds)
            x, rounded = _images(out, convolved), None if copy is None else _images(copy, convolved)
        ctx.save_for_backward(*saved)
        return image_results(ctx, image_rows(x), None if rounded is None else image_rows(rounded))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, _: None) -> tuple[torch.Tensor | None, ...]:
        saved = ctx.saved_tensors
        found: list[torch.Tensor | None] = []
        with torch.autocast("cpu", enabled=False):  # a caller's may still be on
            for number, (way, eps, activation) in reversed(list(enumerate(ctx.steps))):
                x, conv_weight, *normalized = saved[5 * number : 5 * number + 5]
                given = *normalized, eps, activation, way.dtype_of_gradients
                rows, of_affine = normalize_gradients(channel_rows(gradient), *given)
                wanted = number > 0 or ctx.needs_input_grad[0], ctx.needs_input_grad[3 + 3 * number]
                of_x, of_conv = way.gradients(_images(rows, gradient), x, conv_weight, wanted)
                found = [of_conv, *of_affine, *found]
                gradient = of_x
        return None if gradient is None else gradient.to(ctx.dtype), None, None, *found


def _images(rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """``(batch * height * width, channels)`` to the shape of other images."""
    return rows.view(len(like), *like.shape[2:], -1).permute(0, 3, 1, 2)


def _moments(norm: nn.BatchNorm2d, rows: torch.Tensor) -> torch.Tensor:
    """Mean and variance of these images, kept for when the BatchNorm does not train; there of all that they are of."""
    pixels = len(rows)
    if pixels < 2:
        raise ValueError("BatchNorm needs more than one pixel a channel to train with")
    moments = channel_moments(rows)
    mean, variance = moments.float()
    for kept, found in ((norm.running_mean, mean), (norm.running_var, variance * (pixels / (pixels - 1)))):
        cast(torch.Tensor, kept).lerp_(found, cast(float, norm.momentum))
    cast(torch.Tensor, norm.num_batches_tracked).add_(1)
    return moments
