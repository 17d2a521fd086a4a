"""FGA-Net's encoder."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from nnunet_fganet.network.pooling import MaxPool2d


class Encoder(nn.Module):
    """Stage 0: ConvBlock. Stage k: 2x2 max-pool, from k = 2 on SDA, ConvBlock.

    Parameters
    ----------
    in_channels
        Channels of the image.
    features
        Width of each stage.
    make_block
        ``(in, mid, out)`` channels to a ConvBlock.
    make_sda
        Channels to an SDA module; None leaves SDA out.
    """

    FIRST_STAGE_WITH_SDA = 2

    def __init__(
        self,
        in_channels: int,
        features: Sequence[int],
        make_block: Callable[[int, int, int], nn.Module],
        make_sda: Callable[[int], nn.Module] | None,
    ) -> None:
        super().__init__()
        stages = [make_block(in_channels, features[0], features[0])]
        for k in range(1, len(features)):
            stage = nn.Sequential(MaxPool2d())
            if make_sda is not None and k >= self.FIRST_STAGE_WITH_SDA:
                stage.append(make_sda(features[k - 1]))
            stage.append(make_block(features[k - 1], features[k], features[k]))
            stages.append(stage)
        self.stages = nn.ModuleList(stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """``(batch, in_channels, H, W)`` to the features of all stages, finest first."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features
