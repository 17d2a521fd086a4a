"""Images that a training on a CPU hands on rounded to bfloat16, with the float32 numbers that they are rounded from.

autograd's gradients are of the dtype of what they are the gradients of: those of rounded images are read, written and
added up in half the memory. What computes such an image writes both, and what takes it computes with the exact numbers,
which no gradient belongs to, and keeps the rounded ones for the gradients. What knows nothing of the exact ones finds
an image in bfloat16, as torch's autocast would have it.
"""

from typing import Any

import torch

from nnunet_fganet.network.layout import image

_EXACT = "_nnunet_fganet_exact"


def is_rounded(x: torch.Tensor) -> bool:
    """Whether an image has exact numbers beside its own."""
    kept = getattr(x, _EXACT, None)
    return kept is not None and kept[1] == x._version  # else it was written to


def exact(x: torch.Tensor) -> torch.Tensor:
    """Float32 numbers of an image: those that it was rounded from, if they are there."""
    return getattr(x, _EXACT)[0] if is_rounded(x) else x.float()


def without_exact(x: torch.Tensor) -> torch.Tensor:
    """The same image to keep for the gradients, which would keep its exact numbers, too."""
    return x.data if is_rounded(x) else x


def rounds_images() -> bool:
    """Whether images are handed on rounded: under an autocast to bfloat16."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def empty_rounded(x: torch.Tensor, rounds: bool) -> torch.Tensor | None:
    """Memory for a rounded copy of an image, or rows, if one is wanted."""
    return torch.empty_like(x, dtype=torch.bfloat16) if rounds else None


def results(ctx: Any, out: torch.Tensor, rounded: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the forward pass of an ``autograd.Function`` returns for :func:`handed_on`, from rows of channels.

    The first one has a gradient. Both are detached, for autograd forbids to write into a view that one of its functions
    returns.
    """
    ctx.set_materialize_grads(False)
    out = image(out).detach()
    if rounded is None:
        return out, None
    ctx.mark_non_differentiable(out)
    return image(rounded).detach(), out


def handed_on(x: torch.Tensor, exact_numbers: torch.Tensor | None) -> torch.Tensor:
    """An image, from the :func:`results` of a function."""
    if exact_numbers is not None:
        setattr(x, _EXACT, (exact_numbers, x._version))
    return x
