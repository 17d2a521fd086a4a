"""How much memory a training step takes, estimated from the network itself.

Counted in float32 from what autograd saves on a GPU, which the tests compare with the estimate: 12.6
bytes an element of the convolutions' outputs, and for each pixel of each output of the loss 50 bytes
and 52 an iteration of the soft skeleton. Mixed precision takes less, and so does the loss on a CPU.
"""

from collections.abc import Sequence

from nnunet_fganet.network.fganet import FGANet

ACTIVATION_BYTES = 12.6
LOSS_BYTES = 50
SKELETON_BYTES = 52
WEIGHT_BYTES = 12  # weight, gradient and momentum of a parameter
GIGABYTE = 1e9


def training_memory_gb(network: FGANet, patch: Sequence[int], batch: int, skeleton_iterations: int) -> float:
    """Memory of one training step with all outputs, in GB (1e9 bytes).

    Parameters
    ----------
    network
        The network.
    patch
        ``(height, width)`` in px.
    batch
        Patches a step.
    skeleton_iterations
        See :class:`nnunet_fganet.loss.fganet_loss.FGANetLoss`.
    """
    activations = ACTIVATION_BYTES * network.compute_conv_feature_map_size(patch)
    outputs = len(network.decoder.seg_layers)
    loss = outputs * patch[0] * patch[1] * (LOSS_BYTES + SKELETON_BYTES * skeleton_iterations)
    weights = WEIGHT_BYTES * sum(parameter.numel() for parameter in network.parameters())
    return (batch * (activations + loss) + weights) / GIGABYTE
