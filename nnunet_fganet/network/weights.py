"""Whether the weights of a network have changed."""

import weakref
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import nn

Versions = tuple[tuple[int, int], ...]


def weight_versions(network: nn.Module) -> Versions | None:
    """Addresses and version counters of all parameters and buffers; they differ after every in-place change.

    What changes weights behind autograd's back (``parameter.data``) is not seen. None: the weights
    were made in inference mode, where torch keeps no versions.
    """
    return _versions(chain(network.parameters(), network.buffers()))


class LoadedWeights:
    """Remembers what was loaded into a network last, all of it and nothing else.

    Parameters
    ----------
    network
        The network, after loading.
    state_dict
        What was loaded.
    result
        What ``load_state_dict`` returned.

    Attributes
    ----------
    versions
        :func:`weight_versions` of the network after loading.
    """

    def __init__(self, network: nn.Module, state_dict: Mapping[str, Any], result: Any) -> None:
        self._source = {name: weakref.ref(tensor) for name, tensor in state_dict.items()}
        self._source_versions = _versions(state_dict.values())
        self.versions = weight_versions(network)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles of a network remember nothing: references to the source cannot go along."""
        return type(None), ()

    def still_hold(self, network: nn.Module, state_dict: Mapping[str, Any]) -> bool:
        """Whether ``state_dict`` is what was loaded, and neither it nor the network has changed since."""
        same = len(state_dict) == len(self._source) and all(
            name in self._source and self._source[name]() is tensor for name, tensor in state_dict.items()
        )
        if not same or self.versions is None or self._source_versions is None:
            return False
        return _versions(state_dict.values()) == self._source_versions and weight_versions(network) == self.versions

    def has_source(self) -> bool:
        """Whether what was loaded still exists."""
        return all(source() is not None for source in self._source.values())

    def has_source_of(self, other: "LoadedWeights") -> bool:
        """Whether both were loaded from the same tensors, which still exist and had not changed in between."""
        if self._source_versions is None or self._source_versions != other._source_versions:
            return False
        return self._source.keys() == other._source.keys() and all(
            source() is not None and source() is other._source[name]() for name, source in self._source.items()
        )


def _versions(tensors: Iterable[torch.Tensor]) -> Versions | None:
    try:
        return tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
    except RuntimeError:  # tensors of inference mode, and what they have become parameters of
        return None
