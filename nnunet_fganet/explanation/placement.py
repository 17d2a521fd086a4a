"""From a frame to what the network sees of it, and back to the frame's own pixels."""

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn
from torch.nn import functional

from nnunet_fganet.comparators.adapter import AdaptedNetwork
from nnunet_fganet.frames.collimation import clean_border
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.network.padding import FEWEST_MULTIPLES

_SPACING = (999, 1, 1)  # what nnU-Net's reader of PNG files says of every frame: (between frames, rows, columns)


@dataclass(frozen=True)
class PlacedFrame:
    """A frame as the network sees it.

    Parameters
    ----------
    image
        ``(1, 1, h, w)``, float32: cleaned, cropped to its window, normalised, padded with zeros.
    inside
        Rows and columns of ``image`` that are not padding.
    properties
        nnU-Net's record of what it cropped and resampled.
    predictor
        The model that the frame was prepared for.
    """

    image: torch.Tensor
    inside: tuple[slice, slice]
    properties: dict[str, Any]
    predictor: nnUNetPredictor

    def prediction(self, logits: torch.Tensor) -> npt.NDArray[np.uint8]:
        """Mask ``(H, W)`` in the frame's pixels, as nnU-Net makes it from logits ``(1, channels, h, w)``."""
        model = self.predictor
        mask = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits[:, :, *self.inside].transpose(0, 1).cpu(),
            model.plans_manager,
            model.configuration_manager,
            model.label_manager,
            self.properties,
        )
        return mask[0]

    def to_frame(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """``(h, w)`` values of the network's image in the frame's pixels, ``(H, W)``; 0 where nnU-Net cropped."""
        plans, configuration = self.predictor.plans_manager, self.predictor.configuration_manager
        spacing = [self.properties["spacing"][axis] for axis in plans.transpose_forward]
        cropped = configuration.resampling_fn_probabilities(
            torch.from_numpy(np.ascontiguousarray(values[self.inside]))[None, None],
            self.properties["shape_after_cropping_and_before_resampling"],
            [spacing[0], *configuration.spacing],
            spacing,
        )
        whole = np.zeros(self.properties["shape_before_cropping"], np.float32)
        insert_crop_into_image(whole, np.asarray(cropped[0]), self.properties["bbox_used_for_cropping"])
        return whole.transpose(plans.transpose_backward)[0]


def place_frame(predictor: nnUNetPredictor, frame: npt.NDArray[np.integer]) -> PlacedFrame:
    """Prepare a frame as ``fganet prepare-frames`` and nnU-Net's prediction do.

    A frame that is smaller than the patch is padded to it, as in prediction; one that is larger stays whole, where
    prediction would go over it in patches.

    Parameters
    ----------
    predictor
        The trained model.
    frame
        ``(H, W)``, uint8 or uint16, as read from the file.
    """
    configuration = predictor.configuration_manager
    cleaned, _ = clean_border(frame)
    preprocessor = configuration.preprocessor_class(verbose=False)
    data, _, properties = preprocessor.run_case_npy(
        cleaned[None, None],
        None,
        {"spacing": _SPACING},
        predictor.plans_manager,
        configuration,
        predictor.dataset_json,
    )
    image, inside = pad_nd_image(
        torch.from_numpy(data).transpose(0, 1), configuration.patch_size, "constant", {"value": 0}, True, None
    )
    rows, columns = (
        _size_without_own_padding(predictor.network, size, patch)
        for size, patch in zip(image.shape[2:], configuration.patch_size, strict=True)
    )
    image = functional.pad(image, (0, columns - image.shape[3], 0, rows - image.shape[2]))
    return PlacedFrame(image, inside[2:], properties, predictor)


def _size_without_own_padding(network: nn.Module, size: int, patch: int) -> int:
    """Next size that the network's layers halve without a remainder.

    FGA-Net and the comparators would pad to it by themselves, bottom and right, but then their layers would not cover
    the image that they were given, and maps of them not the frame. nnU-Net's networks are known by the patch: it
    divides by what they reduce it to, which is a power of two, 256 at most (nnU-Net's planner halves a side of 1024
    eight times).
    """
    network = getattr(network, "_orig_mod", network)  # of a compiled one
    if isinstance(network, FGANet | AdaptedNetwork):
        return max(-(-size // network.size_multiple), FEWEST_MULTIPLES) * network.size_multiple
    multiple = gcd(patch, 256)
    return -(-size // multiple) * multiple
