"""Layers of a network that a map can be made of."""

import difflib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from nnunet_fganet.errors import InputError
from nnunet_fganet.network.sda import SDA


class Layer(NamedTuple):
    """A module by its name in the network, and what it gives out."""

    name: str
    kind: str
    channels: int
    rows: int
    columns: int


def run_and_list_layers(network: nn.Module, image: torch.Tensor) -> tuple[torch.Tensor, list[Layer]]:
    """Compute an image, and note which modules give feature maps.

    Parameters
    ----------
    network
        Any network whose output is one tensor.
    image
        ``(1, channels, h, w)``.

    Returns
    -------
    logits, layers
        ``(1, classes, h, w)``, and all modules that ran once and gave one tensor ``(1, channels, rows, columns)`` of
        more than one pixel, in the order in which they were done.
    """
    calls: Counter[str] = Counter()
    found: dict[str, Layer] = {}

    def note(name: str, module: nn.Module, _inputs: Any, output: Any) -> None:
        calls[name] += 1
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            found[name] = Layer(name, type(module).__name__, *output.shape[1:])

    hooks = [module.register_forward_hook(partial(note, name)) for name, module in network.named_modules() if name]
    try:
        with torch.no_grad():
            logits = network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return logits, [layer for name, layer in found.items() if calls[name] == 1]


def default_layer(network: nn.Module, layers: Sequence[Layer]) -> Layer:
    """The last SDA of the decoder where there is one, else what the last convolution reads: the last decoder stage."""
    modules = dict(network.named_modules())
    in_decoder = [layer for layer in layers if layer.name.startswith("decoder.")]
    attentions = [layer for layer in in_decoder if isinstance(modules[layer.name], SDA)]
    if attentions:
        return attentions[-1]
    convolutions = [number for number, layer in enumerate(layers) if isinstance(modules[layer.name], nn.Conv2d)]
    return layers[max(convolutions[-1] - 1, 0)] if convolutions else layers[-1]


def find_layer(network: nn.Module, layers: Sequence[Layer], name: str | None) -> Layer:
    """The layer of a name; without one, the default.

    Raises
    ------
    InputError
        The network has no such layer (near names are given), or no map can be made of it.
    """
    if name is None:
        return default_layer(network, layers)
    by_name = {layer.name: layer for layer in layers}
    if name in by_name:
        return by_name[name]
    if name in dict(network.named_modules()):
        raise InputError(
            f"no map can be made of layer {name}: it gives no feature map of one frame, runs several times or not at "
            "all in prediction; --list-layers prints those that can be named."
        )
    near = difflib.get_close_matches(name, by_name, n=3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(f"the network has no layer {name}: {meant}--list-layers prints all.")
