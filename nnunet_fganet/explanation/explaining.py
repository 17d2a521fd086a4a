"""From a frame and a trained model to a map in the frame's own pixels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_fganet.explanation.gradcam import grad_cam_plus_plus, plain_copy, target_pixels
from nnunet_fganet.explanation.layers import Layer, find_layer, run_and_list_layers
from nnunet_fganet.explanation.placement import place_frame

STRONGEST_SHARE = 0.001
"""Of the pixels that the network sees of a frame (cropped and resampled by nnU-Net, without padding), the share whose
logits are explained where no wire was found: about the area of a thin wire."""


@dataclass(frozen=True)
class Explanation:
    """Why a network predicted what it did, in one frame.

    Parameters
    ----------
    cam
        ``(H, W)``, float32 in [0, 1]: the map, relative to its largest value; all 0 where no active feature of
        the layer raises the wire logits.
    prediction
        ``(H, W)``, bool: the wire, as far as the network found one.
    layer
        What the map was made of.
    target_pixels
        How many pixels' wire logits are explained: the predicted ones or, without any, the strongest.
    """

    cam: npt.NDArray[np.float32]
    prediction: npt.NDArray[np.bool_]
    layer: Layer
    target_pixels: int


def explain_frame(predictor: nnUNetPredictor, frame: npt.NDArray[np.integer], layer: str | None = None) -> Explanation:
    """Explain a frame's prediction by Grad-CAM++ of one layer.

    Parameters
    ----------
    predictor
        The trained model, see :func:`nnunet_fganet.inference.trained.load_predictor`.
    frame
        ``(H, W)``, uint8 or uint16, as read from the file.
    layer
        Name of a module of the network; None: see :func:`nnunet_fganet.explanation.layers.default_layer`.

    Raises
    ------
    InputError
        No such layer, no map of it, or the library is not installed.
    """
    network = plain_copy(predictor.network)
    placed = place_frame(predictor, frame)
    image = placed.image.to(predictor.device)
    regions = predictor.label_manager.has_regions
    logits, layers = run_and_list_layers(network, image)
    chosen = find_layer(network, layers, layer)
    pixels = target_pixels(logits[0], regions, placed.inside, STRONGEST_SHARE)
    cam = placed.to_frame(grad_cam_plus_plus(network, image, chosen.name, pixels, regions))
    largest = cam.max()
    return Explanation(
        cam=cam / largest if largest > 0 else cam,
        prediction=placed.prediction(logits) > 0,
        layer=chosen,
        target_pixels=int(pixels.sum()),
    )
