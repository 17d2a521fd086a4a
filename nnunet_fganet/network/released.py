"""State dicts of the authors' released network, under our names."""

import warnings
from collections.abc import Iterable, Mapping

import torch

_WEIGHT = ("weight",)
_WEIGHT_AND_BIAS = ("weight", "bias")
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def convert_released_state_dict(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Map a checkpoint made with the authors' code onto :class:`nnunet_fganet.network.fganet.FGANet`.

    Also takes the parameters of a single released SDA ("gate") or BGA module.

    Parameters
    ----------
    state_dict
        Parameters under the released names, with or without ``module.`` in front (DataParallel).

    Returns
    -------
    dict
        The same tensors under our names, ready for ``load_state_dict``. Keys that our network does
        not use (the released module holds 24 million parameters that its forward pass never
        touches) are left out and named in one warning. Where the count of training batches of a
        BatchNorm is missing it is zero: evaluation does not read it.

    Raises
    ------
    KeyError
        A parameter that the network needs is missing.
    """
    given = {key.removeprefix("module."): value for key, value in state_dict.items()}
    names = _names(given)
    for key in names:
        if key.endswith("num_batches_tracked"):
            given.setdefault(key, torch.tensor(0))
    missing = [key for key in names if key not in given]
    if missing:
        raise KeyError(f"not a released FGA-Net state dict, these parameters are missing: {', '.join(missing)}")
    dropped = [key for key in given if key not in names]
    if dropped:
        warnings.warn(f"parameters that FGANet does not use were dropped: {', '.join(dropped)}", stacklevel=2)
    return {ours: given[theirs] for theirs, ours in names.items()}


def _names(keys: Iterable[str]) -> dict[str, str]:
    """Released name -> our name of every parameter of the module that ``keys`` belong to."""
    first_parts = {key.split(".")[0] for key in keys}
    if "bottleneck" in first_parts:
        return _sda("", "")
    if "encoder1" in first_parts:
        return _bga("", "")
    return _network()


def _network() -> dict[str, str]:
    names = _block("inc.double_conv.", "encoder.stages.0.")
    for k in range(1, 6):
        theirs, ours = f"down{k}.maxpool_conv.1.", f"encoder.stages.{k}."
        with_sda = k >= 2
        if with_sda:
            names |= _sda(f"{theirs}gate.", f"{ours}1.")
        names |= _block(f"{theirs}double_conv.", f"{ours}{2 if with_sda else 1}.")
    for j in range(5):
        theirs, ours = f"up{j + 1}.", f"decoder.stages.{j}."
        names |= _bga(f"{theirs}bga.", f"{ours}bga.")
        if j < 3:
            names |= _sda(f"{theirs}conv.gate.", f"{ours}sda.")
        names |= _block(f"{theirs}conv.double_conv.", f"{ours}block.")
    names |= _layer("outc.conv.", "decoder.seg_layers.0.", _WEIGHT_AND_BIAS)
    for head in range(1, 6):  # theirs count from the bottleneck, ours from the finest
        names |= _layer(f"gt_conv{head}.0.", f"decoder.seg_layers.{6 - head}.", _WEIGHT_AND_BIAS)
    return names


def _block(theirs: str, ours: str) -> dict[str, str]:
    return (
        _layer(f"{theirs}0.", f"{ours}0.", _WEIGHT)
        | _layer(f"{theirs}1.bn.", f"{ours}1.", _BATCH_NORM)
        | _layer(f"{theirs}3.", f"{ours}4.", _WEIGHT)
        | _layer(f"{theirs}4.bn.", f"{ours}5.", _BATCH_NORM)
    )


def _sda(theirs: str, ours: str) -> dict[str, str]:
    return (
        _layer(f"{theirs}bottleneck.0.", f"{ours}pointwise.", _WEIGHT_AND_BIAS)
        | _layer(f"{theirs}offset_conv.", f"{ours}offset_conv.", _WEIGHT_AND_BIAS)
        | _layer(f"{theirs}deform_conv.", f"{ours}deform_conv.", _WEIGHT_AND_BIAS)
    )


def _bga(theirs: str, ours: str) -> dict[str, str]:
    paths = {"encoder1": "low_fine", "encoder2": "low_coarse", "decoder1": "high_fine", "decoder2": "high_coarse"}
    names: dict[str, str] = {}
    for their_path, our_path in (paths | {"out": "fusion"}).items():
        names |= _layer(f"{theirs}{their_path}.0.", f"{ours}{our_path}.0.", _WEIGHT)
        names |= _layer(f"{theirs}{their_path}.1.", f"{ours}{our_path}.1.", _BATCH_NORM)
        if their_path in ("encoder1", "decoder2"):
            names |= _layer(f"{theirs}{their_path}.2.", f"{ours}{our_path}.2.", _WEIGHT)
    return names


def _layer(theirs: str, ours: str, parameters: Iterable[str]) -> dict[str, str]:
    return {theirs + parameter: ours + parameter for parameter in parameters}
