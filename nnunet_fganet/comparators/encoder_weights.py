"""Pretrained encoder weights from a local file; nothing is ever downloaded."""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import nn

from nnunet_fganet.comparators.adapter import AdaptedNetwork
from nnunet_fganet.errors import InputError

RGB = 3


def load_encoder_weights(network: nn.Module, file: Path) -> None:
    """Load weights into the encoder of a comparator.

    Layers of the file that the encoder lacks (its classifier) are left out. Where the first convolution
    was trained on three channels and sees one, its weights are added up, as timm does.

    Parameters
    ----------
    network
        A comparator with an :attr:`nnunet_fganet.comparators.adapter.AdaptedNetwork.encoder`.
    file
        State dict of the encoder's library, ``.safetensors`` or as ``torch.save`` writes it.

    Raises
    ------
    InputError
        The network has no encoder to load into, the file is missing or no state dict, or layers are
        missing or of other widths.
    """
    encoder = network.encoder if isinstance(network, AdaptedNetwork) else None
    if encoder is None:
        raise InputError(f"{file} holds encoder weights, but {type(network).__name__} takes none: leave them out.")
    # timm writes "stem_0.conv" for "stem.0.conv" in networks that return features.
    given = {_flat(name): tensor for name, tensor in _read(file).items()}
    own = encoder.state_dict()
    missing = [name for name in own if _flat(name) not in given and not name.endswith("num_batches_tracked")]
    if missing:
        raise InputError(
            f"{file} lacks layers of the encoder ({missing[0]} and {len(missing) - 1} more): name another."
        )
    weights = {name: given.get(_flat(name), tensor) for name, tensor in own.items()}
    first = next(name for name, tensor in own.items() if tensor.ndim == 4)
    if weights[first].ndim == 4 and weights[first].shape[1] == RGB:
        weights[first] = adapt_input_conv(own[first].shape[1], weights[first])
    differing = [name for name, tensor in own.items() if weights[name].shape != tensor.shape]
    if differing:
        raise InputError(f"{file} was made for an encoder of other widths ({differing[0]}): plan with full widths.")
    encoder.load_state_dict(weights)


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _read(file: Path) -> dict[str, torch.Tensor]:
    if not file.is_file():
        raise InputError(f"{file}, weights for the encoder, does not exist: name another file in the plans.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(f"{file} holds no weights that torch can read ({error}): name another file.") from error
    if not isinstance(weights, dict) or not all(isinstance(each, torch.Tensor) for each in weights.values()):
        raise InputError(f"{file} is no state dict (names and tensors): save the encoder's state_dict().")
    return weights
