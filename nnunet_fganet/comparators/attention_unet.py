"""Attention U-Net (Oktay et al., MIDL 2018): MONAI's."""

from collections.abc import Sequence

from monai.networks.nets.attentionunet import AttentionUnet as MonaiAttentionUnet

from nnunet_fganet.comparators.adapter import AdaptedNetwork


class AttentionUNet(AdaptedNetwork):
    """Attention gates on the skip connections; one output.

    Parameters
    ----------
    input_channels, num_classes, deep_supervision
        See :class:`nnunet_fganet.comparators.adapter.AdaptedNetwork`.
    widths
        Channels of each stage; as many stages as there are widths.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        widths: Sequence[int],
    ) -> None:
        halvings = len(widths) - 1
        network = MonaiAttentionUnet(
            spatial_dims=2,
            in_channels=input_channels,
            out_channels=num_classes,
            channels=tuple(widths),
            strides=(2,) * halvings,
        )
        super().__init__(network, input_channels, 2**halvings, deep_supervision)
