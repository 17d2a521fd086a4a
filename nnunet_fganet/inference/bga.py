"""BGA for inference: as few full-resolution intermediates as it takes."""

import torch
from torch import nn

from nnunet_fganet.compiled.operators import gate_and_add_rows
from nnunet_fganet.compiled.sampling import DTYPES
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
        fine, gate = self.low_fine(low), self.high_fine(high)
        coarse = self.low_coarse(low).mul_(self.high_coarse(high).sigmoid_())
        return self.fusion(_joined(fine, gate, coarse))


def _joined(fine: torch.Tensor, gate: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """``fine * sigmoid(upsample2(gate)) + upsample2(coarse)``, at best into the memory of ``fine``."""
    if fine.device.type != "cpu" or fine.dtype not in DTYPES:
        return fine.mul_(upsample2(gate).sigmoid_()).add_(upsample2(coarse))
    rows, *others = (each.permute(0, 2, 3, 1).contiguous() for each in (fine, gate, coarse))
    gate_and_add_rows(rows, *others)
    return rows.permute(0, 3, 1, 2)
