"""Grad-CAM++ (Chattopadhay et al., WACV 2018, doi 10.1109/WACV.2018.00097) for segmentation.

The library grad-cam does the arithmetic; what is asked of it, and of which network, is decided here.
"""

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nnunet_fganet.errors import InputError
from nnunet_fganet.network.fganet import FGANet


def wire_logits(logits: torch.Tensor, regions: bool) -> torch.Tensor:
    """How far each pixel is on the wire's side: above 0 exactly where nnU-Net's mask is not background.

    Parameters
    ----------
    logits
        ``(channels, h, w)``.
    regions
        One sigmoid for each region: their largest logit (of a single region, its own). Otherwise softmax, background
        first: the largest foreground logit less that of the background.

    Returns
    -------
    torch.Tensor
        ``(h, w)``.
    """
    return logits.amax(0) if regions else logits[1:].amax(0) - logits[0]


def target_pixels(logits: torch.Tensor, regions: bool, inside: tuple[slice, slice], share: float) -> torch.Tensor:
    """Pixels whose wire logits a map shall explain: those predicted as wire or, where there are none, the strongest.

    Parameters
    ----------
    logits, regions
        As in :func:`wire_logits`.
    inside
        Rows and columns that are not padding; pixels elsewhere are never asked for.
    share
        Share of the pixels inside to take where no wire was found.

    Returns
    -------
    torch.Tensor
        ``(h, w)``, bool; at least one pixel.
    """
    strength = wire_logits(logits, regions)
    candidates = strength[inside]
    pixels = torch.zeros_like(strength, dtype=torch.bool)
    found = candidates > 0
    if not found.any():
        count = max(1, round(share * candidates.numel()))
        found = torch.zeros_like(found)
        found.view(-1)[candidates.flatten().topk(count).indices] = True
    pixels[inside] = found
    return pixels


def plain_copy(network: nn.Module) -> nn.Module:
    """Copy a network into one that can be differentiated layer by layer: float32, nothing prepared for prediction."""
    network = copy.deepcopy(getattr(network, "_orig_mod", network)).float().eval().requires_grad_(False)
    if isinstance(network, FGANet):
        network.inference, network.compute_dtypes = None, {}
    return network


def grad_cam_plus_plus(
    network: nn.Module, image: torch.Tensor, layer: str, pixels: torch.Tensor, regions: bool
) -> npt.NDArray[np.float32]:
    """Map of where features of a layer are active that raise the sum of the wire logits over ``pixels``.

    Features count as far as they are positive, as behind a ReLU: for others Grad-CAM++ was not derived. Its weights
    have ``2 + g * (sum of a channel's features)`` as denominator, ``g`` a gradient; where the sum is negative, as
    that of a channel which LeakyReLU left silent but for the wire, the weight changes sign and the map shows
    everything but the wire.

    Parameters
    ----------
    network
        As :func:`plain_copy` makes it.
    image
        ``(1, channels, h, w)``, on the network's device.
    layer
        Name of a module that gives ``(1, channels, rows, columns)``.
    pixels
        ``(h, w)``, bool.
    regions
        As in :func:`wire_logits`.

    Returns
    -------
    numpy.ndarray
        ``(h, w)``, at least 0, bilinear from the layer's resolution. Only ratios within a map mean something.

    Raises
    ------
    InputError
        The library is not installed.
    """
    # The library applies it to the gradients too, of which the method uses the positive ones only.
    method = load_library()(network, [network.get_submodule(layer)], reshape_transform=torch.relu)

    def target(logits: torch.Tensor) -> torch.Tensor:
        return wire_logits(logits, regions)[pixels].sum()

    maps = method(input_tensor=image.detach().requires_grad_(), targets=[target])
    return maps[0]


def load_library() -> Any:
    """The library's class for Grad-CAM++; it and what it imports are loaded only when somebody wants a map.

    Raises
    ------
    InputError
        The library, or something that it imports, is not installed.
    """
    try:
        from pytorch_grad_cam import GradCAMPlusPlus
    except ImportError as error:
        raise InputError(f"maps need the library grad-cam ({error}): pip install 'nnunet_fganet[explain]'.") from error
    return GradCAMPlusPlus
