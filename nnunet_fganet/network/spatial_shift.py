"""Spatial shift: groups of channels move by one step, each group in its own direction."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch.nn import functional

# (rows, columns) at which each group of the output reads the input, as in the released network.
DIRECTIONS = ((-1, 0), (1, 0), (0, -1), (0, 1), (1, 1), (1, -1), (-1, 1), (-1, -1))


def spatial_shift(x: torch.Tensor, step: int = 1, directions: Sequence[tuple[int, int]] = DIRECTIONS) -> torch.Tensor:
    """Shift equal groups of channels, zeros moving in; no parameters, no arithmetic.

    Group ``g`` of the output at pixel ``(i, j)`` is the input at ``(i, j) + step * directions[g]``.

    Parameters
    ----------
    x
        ``(batch, channels, height, width)``; channels a multiple of the number of directions.
    step
        Pixels that a group moves by.
    directions
        ``(rows, columns)`` of each group.

    Raises
    ------
    ValueError
        The channels do not divide into as many equal groups as there are directions.
    """
    channels = x.shape[1]
    if channels % len(directions):
        raise ValueError(f"{channels} channels do not divide into {len(directions)} groups of equal size")
    if x.requires_grad and not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
        return cast(torch.Tensor, _Shift.apply(x, step, directions))
    return _shifted(x, step, directions)


class _Shift(torch.autograd.Function):
    """The gradient moves back, in one go; torch would fill an image with zeros for each group, and add them up."""

    @staticmethod
    def forward(x: torch.Tensor, step: int, directions: Sequence[tuple[int, int]]) -> torch.Tensor:
        return _shifted(x, step, directions)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        _, ctx.step, directions = inputs
        ctx.directions = [(-rows, -columns) for rows, columns in directions]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return spatial_shift(gradient, ctx.step, ctx.directions), None, None


def _shifted(x: torch.Tensor, step: int, directions: Sequence[tuple[int, int]]) -> torch.Tensor:
    height, width = x.shape[2:]
    padded = functional.pad(x, (step, step, step, step))
    groups = padded.chunk(len(directions), dim=1)
    shifted = [
        group[:, :, step * (1 + rows) : step * (1 + rows) + height, step * (1 + columns) : step * (1 + columns) + width]
        for group, (rows, columns) in zip(groups, directions, strict=True)
    ]
    return torch.cat(shifted, dim=1)
