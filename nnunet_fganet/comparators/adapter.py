"""What makes a network of another library one that nnU-Net builds, trains and predicts with."""

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from torch import nn

from nnunet_fganet.network.counting import conv_feature_map_size
from nnunet_fganet.network.padding import Outputs, run_padded


class AdaptedNetwork(nn.Module):
    """nnU-Net's constructor contract around a network that knows nothing of nnU-Net.

    A subclass takes ``(input_channels, num_classes, deep_supervision=False, **arch_kwargs)``, makes the
    library's network and hands it over. Nothing else is changed: weights are drawn as the library draws
    them, so there is no ``initialize`` unless the library has one of its own.

    Parameters
    ----------
    network
        Takes ``(batch, input_channels, H, W)`` and returns logits of H x W.
    input_channels
        Channels of the image.
    size_multiple
        The network takes heights and widths that are multiples of it; other images are padded with
        zeros, bottom and right, and the outputs cropped back.
    deep_supervision
        Return the list of all outputs, the main one first; kept as ``decoder.deep_supervision``, where
        nnU-Net looks for it. A network with a single output returns it in either case.
    """

    def __init__(
        self, network: nn.Module, input_channels: int, size_multiple: int, deep_supervision: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.input_channels = input_channels
        self.size_multiple = size_multiple
        self.decoder = SimpleNamespace(deep_supervision=deep_supervision)

    @property
    def encoder(self) -> nn.Module | None:
        """The part that pretrained weights are for; None: the network has none that anybody trains alone."""
        return None

    def forward(self, x: torch.Tensor) -> Outputs:
        """Logits of an image of any size.

        Parameters
        ----------
        x
            ``(batch, input_channels, H, W)``.

        Returns
        -------
        torch.Tensor or list of torch.Tensor
            ``(batch, num_classes, H, W)``.
        """
        return run_padded(self._logits, x, self.size_multiple)

    def _logits(self, x: torch.Tensor) -> Outputs:
        """Logits of an image of a size that the network takes."""
        return self.network(x)

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Elements of all convolution outputs for one image of ``input_size`` (H, W): nnU-Net's measure of memory."""
        return conv_feature_map_size(self, self.input_channels, input_size)
