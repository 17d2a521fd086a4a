"""Grad-CAM++ maps of the reference's worst frames, with and without SDA (the paper's Fig. 6)."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_fganet.errors import InputError
from nnunet_fganet.explanation.explaining import explain_frame
from nnunet_fganet.explanation.gradcam import load_library, plain_copy
from nnunet_fganet.explanation.layers import default_layer, run_and_list_layers
from nnunet_fganet.inference.trained import load_predictor
from nnunet_fganet.report.document import Prediction, RunDocument, worst_first
from nnunet_fganet.report.gallery import FrameFiles
from nnunet_fganet.report.pictures import map_uri

FRAMES = 3
"""Frames with maps: seconds each, so only a few."""
WITHOUT_SDA = "bga"
"""The ablation's row that lacks only SDA."""


@dataclass(frozen=True)
class Wanted:
    """A map that is to be made: of which prediction."""

    prediction: Prediction
    model: Path
    fold: int


def wanted_maps(run: RunDocument) -> list[list[Wanted]]:
    """Maps that belong side by side, for each frame: the reference's, and in an ablation that without SDA.

    Raises
    ------
    InputError
        The library is not installed, or a training's weights are gone.
    """
    names = [entry["name"] for entry in run.summary["entries"]]
    entries = [run.reference, *(number for number, name in enumerate(names) if name == WITHOUT_SDA)]
    worst = sorted((each for each in run.predictions if each.entry == run.reference), key=worst_first)
    frames: dict[str, list[Wanted]] = {}
    for prediction in worst:
        if len(frames) == FRAMES:
            break
        if prediction.case not in frames:
            frames[prediction.case] = [
                Wanted(own, run.root / own.run["model"], own.run["fold"])
                for entry in entries
                if (own := _same_frame(run, prediction, entry)) is not None
            ]
    _check(run, [wanted for own in frames.values() for wanted in own])
    return list(frames.values())


def _same_frame(run: RunDocument, prediction: Prediction, entry: int) -> Prediction | None:
    wanted = (entry, prediction.case, prediction.wire_class, prediction.seed)
    return next(
        (each for each in run.predictions if (each.entry, each.case, each.wire_class, each.seed) == wanted), None
    )


def _check(run: RunDocument, maps: list[Wanted]) -> None:
    """Find out what is missing before anything is computed."""
    way_out = "or leave the maps out with --no-maps"
    try:
        load_library()
    except InputError as error:
        raise InputError(f"{str(error).rstrip('.')}, {way_out}.") from None
    for wanted in maps:
        checkpoint = run.root / wanted.prediction.run["checkpoint"]
        if not checkpoint.is_file():
            raise InputError(f"{checkpoint} is gone, which Grad-CAM++ maps need: bring it back, {way_out}.")


def make_maps(run: RunDocument, files: FrameFiles, frames: list[list[Wanted]]) -> list[dict[str, Any]]:
    """Compute the maps, with progress on the terminal.

    All maps of a frame are of the layer that is the reference's default: the last SDA of the decoder, and without SDA
    the same place.

    Returns
    -------
    frames
        Name of the frame, the frame with its label, and its maps with what belongs below them.
    """
    load = lru_cache(maxsize=2)(load_predictor)
    done, total = 0, sum(map(len, frames))
    shown = []
    for own in frames:
        layer = _default_layer(load(own[0].model, own[0].fold))
        maps, masks = [], files.read(own[0].prediction)
        for wanted in own:
            done += 1
            prediction = wanted.prediction
            print(f"Map {done} of {total}: {prediction.case}, {run.titles[prediction.entry]}", flush=True)
            explanation = explain_frame(load(wanted.model, wanted.fold), masks.frame, layer)
            maps.append(
                {
                    "entry": prediction.entry,
                    "title": run.titles[prediction.entry],
                    "layer": explanation.layer.name,
                    "kind": explanation.layer.kind,
                    "dice": prediction.dice,
                    "empty": not explanation.cam.any(),
                    "wire": int(explanation.prediction.sum()),
                    "uri": map_uri(masks.frame, explanation.cam, explanation.prediction),
                }
            )
        plain = map_uri(masks.frame, np.zeros(masks.frame.shape), masks.label)
        first = own[0].prediction
        shown.append({"case": first.case, "which": run.which(first), "label": plain, "maps": maps})
    return shown


def _default_layer(predictor: nnUNetPredictor) -> str:
    network, patch = plain_copy(predictor.network), predictor.configuration_manager.patch_size
    _, layers = run_and_list_layers(network, torch.zeros(1, 1, *patch, device=predictor.device))
    return default_layer(network, layers).name
