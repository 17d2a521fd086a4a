"""The network and the frames that are measured."""

import numpy as np
import torch
from torch import nn

from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.network.sda import SDA
from nnunet_fganet.phantom.scenes import draw_synthetic_scene
from nnunet_fganet.phantom.sequence import film_sequence

WIRE_SHARE = 0.02  # of the pixels
_CALIBRATION_SIZE = 128


def frame_and_label(size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """One phantom frame as nnU-Net feeds it (mean 0, standard deviation 1), and its label, ``(1, 1, size, size)``."""
    rng = np.random.default_rng(seed)
    frame = next(film_sequence(rng, draw_synthetic_scene(rng, 1, size), 1, has_wire=True))
    image = torch.from_numpy(frame.image.astype(np.float32))
    label = torch.from_numpy(frame.mask.astype(np.float32))
    return ((image - image.mean()) / image.std())[None, None], label[None, None]


@torch.no_grad()
def trained_like_network(dropout: float = 0.2) -> FGANet:
    """The released network with random weights that behave as trained ones do.

    Offsets move sampling points by about a pixel, BatchNorm knows the statistics of its input, and
    the bias of the head calls 2 % of a frame's pixels wire.
    """
    torch.manual_seed(0)
    network = FGANet(1, 1, dropout=dropout)
    network.apply(network.initialize)
    for module in network.modules():
        if isinstance(module, SDA):
            fan_in = module.offset_conv.weight[0].numel()
            nn.init.normal_(module.offset_conv.weight, std=1.5 * fan_in**-0.5)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the running statistics are those of one batch
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    frames = torch.cat([frame_and_label(_CALIBRATION_SIZE, seed)[0] for seed in range(2)])
    logits = network.train()(frames)
    network.get_parameter("decoder.seg_layers.0.bias").sub_(torch.quantile(logits, 1 - WIRE_SHARE))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
        if isinstance(module, nn.Dropout):
            module.p = dropout
    return network.eval()
