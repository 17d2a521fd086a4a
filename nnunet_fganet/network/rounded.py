"""Images that a training on a CPU hands on rounded to bfloat16, with the float32 numbers that they are rounded from.

autograd's gradients are of the dtype of what they are the gradients of: those of rounded images are read, written and
added up in half the memory. What takes such an image computes with its exact numbers, which no gradient belongs to, and
keeps the rounded ones for gradients in bfloat16.

The exact numbers are an attribute of the tensor, so that modules take and return images as ever. What knows nothing of
them finds an image in bfloat16, as torch's autocast would have it. So does what comes after a view or a copy, a full
backward hook of a module, or a checkpoint (``torch.utils.checkpoint``), which computes again from a copy.
"""

from typing import Any

import torch

from nnunet_fganet.network.layout import image

_EXACT = "_nnunet_fganet_exact"


def is_rounded(x: torch.Tensor) -> bool:
    """Whether an image has exact numbers beside its own."""
    kept = getattr(x, _EXACT, None)
    return kept is not None and kept[1] == _version(x)  # else it was written to


def exact(x: torch.Tensor) -> torch.Tensor:
    """Float32 numbers of an image: those that it was rounded from, if they are there."""
    return getattr(x, _EXACT)[0] if is_rounded(x) else x.float()


def without_exact(x: torch.Tensor) -> torch.Tensor:
    """The same image to keep for the gradients: itself, it would keep its exact numbers, too."""
    return x.detach() if is_rounded(x) else x


def rounds_images() -> bool:
    """Whether images are handed on rounded: under an autocast to bfloat16."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def empty_rounded(rows: torch.Tensor, rounds: bool) -> torch.Tensor | None:
    """Memory for a copy of some rows in bfloat16, if one is wanted."""
    return torch.empty_like(rows, dtype=torch.bfloat16) if rounds else None


def image_results(
    ctx: Any, rows: torch.Tensor, rounded: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the forward pass of an ``autograd.Function`` returns for :func:`handed_on`.

    Parameters
    ----------
    ctx
        Of the function.
    rows, rounded
        ``(batch, height, width, channels)``, float32, and a copy in bfloat16, if there is one.

    Returns
    -------
    tuple of torch.Tensor
        Images ``(batch, channels, height, width)``: the rounded one and, without a gradient, the exact one; or the
        exact one and None. They are detached, for autograd forbids to write into a view that a function returns.
    """
    ctx.set_materialize_grads(False)
    exact_image = image(rows).detach()
    if rounded is None:
        return exact_image, None
    ctx.mark_non_differentiable(exact_image)
    return image(rounded).detach(), exact_image


def handed_on(x: torch.Tensor, exact_numbers: torch.Tensor | None) -> torch.Tensor:
    """Of :func:`image_results`, one image: the first, with the exact numbers, if there are any."""
    if exact_numbers is not None:
        setattr(x, _EXACT, (exact_numbers, _version(x)))
    return x


def _version(x: torch.Tensor) -> int | None:
    """How often a tensor was written to; torch does not count it in inference mode."""
    return None if x.is_inference() else x._version
