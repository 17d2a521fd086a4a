"""What nnU-Net adds to the network: a fresh ``nnUNetv2_predict`` process beside as many calls of the network.

    python benchmarks/prediction_process.py MODEL FOLD FRAMES COUNT [OPTION ...]

MODEL is ``$nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION``; COUNT frames are made by repeating
those of FRAMES (``NAME_0000.png``), which must not be larger than the patch, so that a frame is one call.
OPTIONs go to nnUNetv2_predict, such as ``-npp 1 -nps 1`` or ``-device cuda`` (``cpu`` unless given).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import torch
from agreement import load_network, read_frame

from nnunet_fganet.inference.prepared import optimize_for_inference


def main(model: str, fold: str, frames: str, count: str, *options: str) -> None:
    """Print both times and their ratio."""
    paths = sorted(Path(frames).glob("*_0000.png"))
    if "-device" not in options:
        options = ("-device", "cpu", *options)
    calls = _time_calls(model, fold, paths, int(count), options[options.index("-device") + 1])
    process = _time_process(Path(model), fold, paths, int(count), options)
    print(f"{count} calls of the prepared network: {calls:.1f} s ({calls / int(count) * 1e3:.0f} ms each)")
    print(f"nnUNetv2_predict, a fresh process: {process:.1f} s")
    print(f"less 10 s of start, over the calls: {(process - 10) / calls:.2f}")


def _time_calls(model: str, fold: str, paths: list[Path], count: int, device: str) -> float:
    prepared = optimize_for_inference(load_network(model, fold).to(device))
    images = [read_frame(path) for path in paths]
    for image in images[:2]:
        prepared(image.to(device)).cpu()
    start = time.perf_counter()
    for image in islice(cycle(images), count):
        prepared(image.to(device)).cpu()
    return time.perf_counter() - start


def _time_process(model: Path, fold: str, paths: list[Path], count: int, options: tuple[str, ...]) -> float:
    trainer, plans, configuration = model.name.split("__")
    dataset = model.parent.name.removeprefix("Dataset").split("_")[0]
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "in", Path(folder) / "out"
        inputs.mkdir()
        for number, path in enumerate(islice(cycle(paths), count)):
            shutil.copy(path, inputs / f"frame{number:05d}_0000.png")
        command = [Path(sys.executable).with_name("nnUNetv2_predict"), "-i", inputs, "-o", outputs, "-d", dataset]
        command += ["-c", configuration, "-f", fold, "-tr", trainer, "-p", plans, "--disable_tta", *options]
        environment = {**os.environ, "nnUNet_results": str(model.parents[1])}
        start = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    torch.set_grad_enabled(False)
    main(*sys.argv[1:])
