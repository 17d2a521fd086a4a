"""``fganet explain``: where a trained network looks when it calls pixels wire."""

import argparse
from pathlib import Path

import torch

from nnunet_fganet.cli.arguments import fold
from nnunet_fganet.errors import InputError
from nnunet_fganet.explanation.explaining import explain_frame
from nnunet_fganet.explanation.gradcam import load_library, plain_copy
from nnunet_fganet.explanation.layers import default_layer, run_and_list_layers
from nnunet_fganet.explanation.overlay import write_explanation
from nnunet_fganet.files import check_new_file, written_beside
from nnunet_fganet.frames.collimation import clean_border
from nnunet_fganet.frames.reading import read_frame
from nnunet_fganet.inference.trained import load_predictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fganet explain``; ``docs/explanation.md`` explains them."""
    parser.add_argument("frame", metavar="FRAME", type=Path, nargs="?", help="image file: PNG, JPEG, TIFF or BMP")
    parser.add_argument(
        "--model", metavar="FOLDER", type=Path, required=True, help="nnU-Net's results, .../TRAINER__PLANS__2d"
    )
    parser.add_argument("--fold", type=fold, default=0, help="number of the fold, or all (default: 0)")
    parser.add_argument("--layer", metavar="NAME", help="layer to explain (default: marked in --list-layers)")
    parser.add_argument("--list-layers", action="store_true", help="print the layers that can be named, and stop")
    parser.add_argument("--out", metavar="FILE", type=Path, help="PNG to write (default: FRAME's name_explained.png)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (default: cpu)")
    parser.add_argument("--force", action="store_true", help="replace FILE where it exists")


def run(arguments: argparse.Namespace) -> None:
    """Explain one frame, or list the layers."""
    if arguments.list_layers:
        _list_layers(arguments)
        return
    path = arguments.frame
    if path is None:
        raise InputError("no frame is given: name an image file, or ask for --list-layers.")
    frame = read_frame(path)
    if not frame.any():
        raise InputError(f"{path} is black: choose a frame that shows something.")
    out = arguments.out or Path(f"{path.stem}_explained.png")
    _check_out(out, path, arguments.force)
    load_library()
    predictor = load_predictor(arguments.model, arguments.fold, arguments.device)
    explanation = explain_frame(predictor, frame, arguments.layer)
    name, kind, channels, rows, columns = explanation.layer
    print(f"Layer: {name} ({kind}, {channels} channels of {rows} x {columns})")
    if explanation.prediction.any():
        print(f"Wire: {explanation.prediction.sum()} pixels predicted")
    else:
        print(
            f"No wire was found in {path}: the map explains the {explanation.target_pixels} strongest wire logits "
            "instead, none of which reached a prediction."
        )
    if not explanation.cam.any():
        print(f"No active feature of {name} raises the wire logits here, and the map is empty: try an earlier layer.")
    title = f"{path.name} · {arguments.model.resolve().name}, fold {arguments.fold}"
    with written_beside(out, overwrite=arguments.force) as partial:
        write_explanation(partial, clean_border(frame)[0], explanation, title)
    print(f"Explanation: {out}")


def _list_layers(arguments: argparse.Namespace) -> None:
    predictor = load_predictor(arguments.model, arguments.fold, arguments.device)
    network, patch = plain_copy(predictor.network), predictor.configuration_manager.patch_size
    _, layers = run_and_list_layers(network, torch.zeros(1, 1, *patch, device=predictor.device))
    default = default_layer(network, layers)
    width = max(len(layer.name) for layer in layers)
    print(f"Layers of {arguments.model}, sizes for a patch of {patch[0]} x {patch[1]}; * is the default.")
    for layer in layers:
        mark = "*" if layer == default else " "
        print(f"{mark} {layer.name:<{width}}  {layer.channels:>5} x {layer.rows} x {layer.columns}  {layer.kind}")


def _check_out(out: Path, frame: Path, force: bool) -> None:
    if out.suffix.lower() != ".png":
        raise InputError(f"{out} is no name of a PNG file: end it with .png.")
    if out.exists() and out.samefile(frame):
        raise InputError(f"{out} is the frame itself: give another name with --out.")
    check_new_file(out, force)
