"""The network and the frames that are measured."""

import copy
from functools import cache

import numpy as np
import torch
from torch import nn

from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.network.conv import Conv2d
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.phantom.scenes import draw_synthetic_scene
from nnunet_fganet.phantom.sequence import film_sequence

WIRE_SHARE = 0.02  # of the pixels
_TRAINING_SIZE, _TRAINING_FRAMES, _TRAINING_STEPS = 128, 8, 20


def frame_and_label(size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """One phantom frame as nnU-Net feeds it (mean 0, standard deviation 1), and its label, ``(1, 1, size, size)``."""
    rng = np.random.default_rng(seed)
    frame = next(film_sequence(rng, draw_synthetic_scene(rng, 1, size), 1, has_wire=True))
    image = torch.from_numpy(frame.image.astype(np.float32))
    label = torch.from_numpy(frame.mask.astype(np.float32))
    return ((image - image.mean()) / image.std())[None, None], label[None, None]


def trained_like_network() -> FGANet:
    """The released network after a few training steps on phantom frames, in evaluation mode.

    It finds no wires yet, but behaves as a trained network does where it matters here: random weights
    amplify the last bit of every number until no two ways to compute agree. It calls 2 % of the pixels
    of the training frames wire, and any share of others: see :func:`call_wire`.
    """
    return copy.deepcopy(_trained())


@torch.no_grad()
def call_wire(network: FGANet, frames: torch.Tensor) -> None:
    """Set the bias of the head so that the network calls 2 % of the pixels of these frames wire.

    Where a few training steps lead depends on the last bits of the gradients. Two masks without wire agree, whatever
    computed them.
    """
    logits = network(frames)
    network.get_parameter("decoder.seg_layers.0.bias").sub_(torch.quantile(logits, 1 - WIRE_SHARE))


@cache
def _trained() -> FGANet:
    torch.manual_seed(0)
    network = FGANet(1, 1, deep_supervision=True, dropout=0.0)
    network.apply(network.initialize)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True)
    loss = FGANetLoss(regions=True)
    frames = [frame_and_label(_TRAINING_SIZE, seed) for seed in range(_TRAINING_FRAMES)]
    for step in range(_TRAINING_STEPS):
        batch = [frames[(2 * step + k) % _TRAINING_FRAMES] for k in range(2)]
        images, labels = (torch.cat(each) for each in zip(*batch, strict=True))
        optimizer.zero_grad()
        loss(network(images), labels).backward()
        optimizer.step()
    network.zero_grad()
    network.decoder.deep_supervision = False
    call_wire(network.eval(), torch.cat([image for image, _ in frames]))
    return network.to(memory_format=torch.contiguous_format)


def with_dropout(network: FGANet, p: float) -> FGANet:
    """A copy that drops values with probability ``p`` in training."""
    copied = copy.deepcopy(network)
    for module in copied.modules():
        if isinstance(module, nn.Dropout):
            module.p = p
    return copied


def with_torchs_convolutions(network: FGANet) -> FGANet:
    """A copy whose plain convolutions train as torch's own do."""
    copied = copy.deepcopy(network)
    for module in copied.modules():
        is_ours = isinstance(module, Conv2d)
        if is_ours:
            module.__class__ = nn.Conv2d  # of which ours overrides the forward pass and nothing else
    return copied
