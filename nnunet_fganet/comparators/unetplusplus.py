"""U-Net++ (Zhou et al., DLMIA 2018): MONAI's."""

from collections.abc import Sequence

import torch
from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus

from nnunet_fganet.comparators.adapter import AdaptedNetwork

HALVINGS = 4


class UNetPlusPlus(AdaptedNetwork):
    """Nested skip connections; four outputs, all at full resolution.

    Parameters
    ----------
    input_channels, num_classes, deep_supervision
        See :class:`nnunet_fganet.comparators.adapter.AdaptedNetwork`.
    widths
        Channels of the five stages.
    strides
        Not used here: nnU-Net's trainer reads from the plans how many outputs there are (``[[1, 1]]``,
        once for each and once more).
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        widths: Sequence[int],
        strides: Sequence[Sequence[int]] | None = None,
    ) -> None:
        network = BasicUNetPlusPlus(
            spatial_dims=2,
            in_channels=input_channels,
            out_channels=num_classes,
            features=(*widths, widths[0]),
            deep_supervision=True,
            act=("relu", {"inplace": True}),
            norm="batch",
            upsample="nontrainable",
        )
        super().__init__(network, input_channels, 2**HALVINGS, deep_supervision)

    def _logits(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        outputs = self.network(x)[::-1]  # the library's main output, of the deepest path, comes last
        return outputs if self.decoder.deep_supervision else outputs[0]
