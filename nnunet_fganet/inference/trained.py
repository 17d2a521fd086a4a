"""Networks of trained models, loaded by nnU-Net's own means."""

import contextlib
import io
import warnings
from pathlib import Path

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_fganet.errors import InputError, is_of_another_network

CHECKPOINT = "checkpoint_final.pth"
_BESIDE_THE_FOLDS = ("plans.json", "dataset.json")
_WHICH_FOLDER = "give the folder that nnU-Net trained into, .../TRAINER__PLANS__2d"


def load_model(folder: Path, fold: int | str = 0, device: str = "cpu") -> nnUNetPredictor:
    """Load one fold of a trained model, with its weights, in evaluation mode, without test-time mirroring.

    Parameters
    ----------
    folder
        nnU-Net's results folder of the training, ``.../TRAINER__PLANS__CONFIGURATION``.
    fold
        Number of the fold, or ``all``.
    device
        ``cpu`` or ``cuda``.

    Returns
    -------
    nnUNetPredictor
        Its ``network`` is on the device; plans, labels and preprocessing are its other attributes.

    Raises
    ------
    InputError
        No folder of a trained model, no finished training of this fold, files that nnU-Net cannot load, or no GPU.
    """
    _check(folder, fold)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("torch finds no GPU here (device cuda): compute on the CPU instead.")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nnU-Net's search for trainers imports all of its modules
        predictor = nnUNetPredictor(use_mirroring=False, device=torch.device(device), allow_tqdm=False)
        try:
            predictor.initialize_from_trained_model_folder(str(folder), (fold,), CHECKPOINT)
        except Exception as error:  # damaged files, unknown trainers and weights of other networks raise nearly all
            raise InputError(f"{folder}, fold {fold}, cannot be loaded {_reason(error)}.") from error
    predictor.network.to(predictor.device).eval()
    return predictor


def load_predictor(folder: Path, fold: int | str = 0, device: str = "cpu") -> nnUNetPredictor:
    """Load a model that takes single grey frames, see :func:`load_model`.

    Raises
    ------
    InputError
        Also where the model takes something else.
    """
    predictor = load_model(folder, fold, device)
    if len(predictor.configuration_manager.patch_size) != 2 or len(predictor.dataset_json["channel_names"]) != 1:
        raise InputError(f"{folder} was not trained on single grey frames: name a 2d model of one channel.")
    return predictor


def _reason(error: Exception) -> str:
    """Why, and the way out."""
    if is_of_another_network(error):
        return (
            "(its weights are of another network than its plans.json describes): another fold was trained here with "
            "other plans, so train this one anew"
        )
    reason = str(error).partition("\n")[0].rstrip(".:") or type(error).__name__
    return f"({reason}): see whether the training ended well, and whether fganet doctor finds its trainer"


def _check(folder: Path, fold: int | str) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder} is not there, or no folder: {_WHICH_FOLDER}.")
    for name in _BESIDE_THE_FOLDS:
        if not (folder / name).is_file():
            raise InputError(f"{folder} holds no {name}, so it is no trained model: {_WHICH_FOLDER}.")
    if (folder / f"fold_{fold}" / CHECKPOINT).is_file():
        return
    finished = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{CHECKPOINT}"))
    way_out = f"choose fold {' or '.join(finished)}" if finished else "train it to its end first"
    raise InputError(f"{folder} holds no fold_{fold}/{CHECKPOINT}: {way_out}.")
