"""FGA-Net's loss for labels and regions, over all outputs of deep supervision."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from nnunetv2.utilities.ddp_allgather import AllGatherGrad
from torch import nn
from torch.nn import functional

from nnunet_fganet.loss.functional import soft_cldice, soft_dice
from nnunet_fganet.loss.skeleton import skeletons_together, soft_skeleton


@dataclass
class _Target:
    """A label made ready once for all outputs.

    ``foreground`` and ``skeleton`` are ``(batch, classes, H, W)`` in float32 with zeros where
    ``valid`` ``(batch, 1, H, W)`` is zero; ``labels`` ``(batch, H, W)`` is None with regions.
    """

    foreground: torch.Tensor
    skeleton: torch.Tensor
    valid: torch.Tensor | None
    labels: torch.Tensor | None


class FGANetLoss(nn.Module):
    """``L = w BCE + (1 - alpha) (1 - soft Dice) + alpha (1 - soft clDice)``, summed over outputs.

    Regions take binary cross-entropy and sigmoid probabilities; labels take cross-entropy and the
    softmax probabilities of the foreground classes. The sums of Dice and clDice run over all pixels of the batch (in
    distributed training of all processes), the cross-entropy's over those of this process, as in nnU-Net's losses.
    Everything is computed in float32.

    Parameters
    ----------
    regions
        The target holds one channel a region (and a last one that marks ignored pixels, where
        ``ignore_label`` is given) instead of integer labels.
    alpha
        Weight of clDice against Dice, in [0, 1); clDice alone is not a loss.
    skeleton_iterations
        See :func:`nnunet_fganet.loss.skeleton.soft_skeleton`.
    stage_weights
        Weight of each output, the main one first; None: 1, 1/2, 1/4, ...
    cross_entropy_weight
        w; 1 in the paper's text, 0.5 in the released code.
    squared_denominator
        Soft Dice with squares in the denominator (paper) or without (released code).
    per_image
        Sum over the pixels of each image, and average the images.
    ignore_label
        Integer label of pixels that count nowhere.
    distributed
        Add up the sums of all processes (DistributedDataParallel).

    Raises
    ------
    ValueError
        ``alpha`` is outside [0, 1).
    """

    def __init__(
        self,
        regions: bool,
        alpha: float = 0.25,
        skeleton_iterations: int = 10,
        stage_weights: Sequence[float] | None = None,
        cross_entropy_weight: float = 1.0,
        squared_denominator: bool = True,
        per_image: bool = False,
        ignore_label: int | None = None,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= alpha < 1:
            raise ValueError(f"alpha must be at least 0 and below 1, not {alpha}")
        self.regions = regions
        self.alpha = alpha
        self.skeleton_iterations = skeleton_iterations
        self.stage_weights = stage_weights
        self.cross_entropy_weight = cross_entropy_weight
        self.squared_denominator = squared_denominator
        self.per_image = per_image
        self.ignore_label = ignore_label
        self.distributed = distributed

    def forward(
        self, outputs: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor | Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Loss of one batch.

        Parameters
        ----------
        outputs
            Logits ``(batch, channels, H, W)``, one tensor or the list of all outputs.
        target
            The label of full resolution, alone or first in a list: regions ``(batch, channels[+1],
            H, W)`` or labels ``(batch, 1, H, W)``.

        Returns
        -------
        torch.Tensor
            Scalar, float32.

        Raises
        ------
        ValueError
            There are not as many outputs as stage weights.
        """
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        target = target if isinstance(target, torch.Tensor) else target[0]
        weights = self.stage_weights or [0.5**i for i in range(len(outputs))]
        if len(weights) != len(outputs):
            raise ValueError(f"{len(outputs)} outputs need as many stage weights, not {len(weights)}")
        # Sums over a million pixels and quotients of them need more than autocast's half precision.
        with torch.autocast(target.device.type, enabled=False):
            prepared = self._prepare(target, num_classes=outputs[0].shape[1])
            logits = [output.float() for output in outputs]
            skeletons = self._skeletons(logits, prepared)
            losses = [self._one_output(*each, prepared) for each in zip(logits, skeletons, strict=True)]
        return sum(
            (weight * loss for weight, loss in zip(weights[1:], losses[1:], strict=True)), weights[0] * losses[0]
        )

    def _prepare(self, target: torch.Tensor, num_classes: int) -> _Target:
        valid = labels = None
        if self.regions:
            foreground = target[:, :num_classes].float()
            if self.ignore_label is not None:
                valid = 1 - target[:, -1:].float()
        else:
            labels = target[:, 0].long()
            if self.ignore_label is not None:
                valid = (labels != self.ignore_label).unsqueeze(1).float()
                labels = labels.masked_fill(labels == self.ignore_label, 0)
            foreground = functional.one_hot(labels, num_classes)[..., 1:].movedim(-1, 1).float()
        if valid is not None:
            foreground = foreground * valid
        skeleton = soft_skeleton(foreground, self.skeleton_iterations) if self.alpha else foreground
        return _Target(foreground, skeleton, valid, labels)

    def _probability(self, logits: torch.Tensor, target: _Target) -> torch.Tensor:
        probability = logits.sigmoid() if self.regions else logits.softmax(1)[:, 1:]
        return probability if target.valid is None else probability * target.valid

    def _skeletons(self, logits: Sequence[torch.Tensor], target: _Target) -> Sequence[torch.Tensor | None]:
        """Those of all outputs, where they are computed together: on a GPU. None: to be computed when it is needed."""
        if not self.alpha or logits[0].device.type == "cpu":
            return [None] * len(logits)
        return skeletons_together([self._probability(each, target) for each in logits], self.skeleton_iterations)

    def _one_output(self, logits: torch.Tensor, skeleton: torch.Tensor | None, target: _Target) -> torch.Tensor:
        probability = self._probability(logits, target)
        loss = (1 - self.alpha) * (1 - self._dice(probability, target.foreground))
        if self.alpha:
            loss = loss + self.alpha * (1 - self._cldice(probability, skeleton, target))
        return loss + self.cross_entropy_weight * self._cross_entropy(logits, target)

    def _cross_entropy(self, logits: torch.Tensor, target: _Target) -> torch.Tensor:
        if target.labels is None:
            entropy = functional.binary_cross_entropy_with_logits(logits, target.foreground, reduction="none")
        else:
            entropy = functional.cross_entropy(logits, target.labels, reduction="none").unsqueeze(1)
        if target.valid is None:
            return entropy.mean()
        # A patch may hold no valid pixel at all.
        return (entropy * target.valid).sum() / (target.valid.sum() * entropy.shape[1]).clamp_min(1)

    def _dice(self, probability: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
        size = probability.square() if self.squared_denominator else probability
        return soft_dice(self._sum(probability * foreground), self._sum(size), self._sum(foreground)).mean()

    def _cldice(self, probability: torch.Tensor, skeleton: torch.Tensor | None, target: _Target) -> torch.Tensor:
        if skeleton is None:
            skeleton = soft_skeleton(probability, self.skeleton_iterations)
        return soft_cldice(
            self._sum(skeleton * target.foreground),
            self._sum(skeleton),
            self._sum(target.skeleton * probability),
            self._sum(target.skeleton),
        ).mean()

    def _sum(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, classes, H, W)`` to sums ``(classes,)``, or ``(batch, classes)`` an image each."""
        sums = x.sum((2, 3))
        if self.per_image:
            return sums
        sums = sums.sum(0)
        return AllGatherGrad.apply(sums).sum(0) if self.distributed else sums
