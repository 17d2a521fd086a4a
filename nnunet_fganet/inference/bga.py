"""BGA for inference: as few full-resolution intermediates as it takes."""

import torch
from torch import nn

from nnunet_fganet.network.bga import BGA, upsample2


class PreparedBGA(nn.Module):
    """See :class:`nnunet_fganet.network.bga.BGA`; takes the convolutions of ``bga``, which are ready already."""

    def __init__(self, bga: BGA) -> None:
        super().__init__()
        self.low_fine, self.low_coarse = bga.low_fine, bga.low_coarse
        self.high_fine, self.high_coarse = bga.high_fine, bga.high_coarse
        self.fusion = bga.fusion

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """See :meth:`nnunet_fganet.network.bga.BGA.forward`."""
        fine = self.low_fine(low).mul_(upsample2(self.high_fine(high)).sigmoid_())
        coarse = self.low_coarse(low).mul_(self.high_coarse(high).sigmoid_())
        return self.fusion(fine.add_(upsample2(coarse)))
