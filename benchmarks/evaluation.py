"""Time and memory of ``fganet evaluate`` on a test set as large as the paper's: 903 frames of 512 x 512.

    python benchmarks/evaluation.py FOLDER [WORKERS]

Draws 43 phantom sequences of 21 frames in FOLDER (once; about two minutes), takes their masks as
labels, and as predictions masks and probabilities of noisy logits, saved as nnU-Net saves them: wires
with gaps, false wire, and nearly all probabilities close to 0 or 1. Then runs the command with
everything on. At last says in what share of the frames the tip of the label is the wire's true tip.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from nnunet_fganet.evaluation.tip import find_tip
from nnunet_fganet.files import written_beside
from nnunet_fganet.frames.writing import write_png
from nnunet_fganet.phantom.writing import write_phantom

SEQUENCES, FRAMES, SIZE = 43, 21, 512
LABELS = {"labels": {"background": 0, "guidewire": [1, 1]}, "regions_class_order": [1]}


def main(folder: str, workers: str = "2") -> None:
    """Draw what is missing, evaluate, print time and memory."""
    root = Path(folder)
    phantom, drawn = root / "phantom", root / "drawn"
    if not phantom.exists():
        write_phantom(phantom, SEQUENCES, FRAMES, SIZE, seed=0)
    if not drawn.exists():
        with written_beside(drawn) as partial:
            draw(phantom, partial)
    outputs = ["--csv", str(root / "frames.csv"), "--json", str(root / "summary.json"), "--force", "--workers", workers]
    command = [str(Path(sys.executable).with_name("fganet")), "evaluate"]
    started = time.perf_counter()
    subprocess.run([*command, str(drawn / "predictions"), str(drawn / "labels"), *outputs], check=True)
    seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"\n{seconds:.1f} s, {memory:.0f} MB at most, {workers} workers")
    errors = tip_errors(phantom)
    print(f"Tips within 5 px of the true ones: {np.mean(errors <= 5):.1%} of {len(errors)} frames with a wire")


def draw(phantom: Path, folder: Path) -> None:
    """Write labels, predictions and probabilities."""
    labels, predictions = folder / "labels", folder / "predictions"
    for made in (labels, predictions):
        made.mkdir(parents=True)
    (predictions / "dataset.json").write_text(json.dumps(LABELS))
    for number, path in enumerate(sorted(phantom.glob("*/masks/*.png"))):
        label = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0).astype(np.uint8)
        probability = 1 / (1 + np.exp(-noisy_logits(label, number)))
        write_png(labels / path.name, label)
        write_png(predictions / path.name, (probability > 0.5).astype(np.uint8))
        np.savez_compressed(predictions / f"{path.stem}.npz", probabilities=probability[None, None])


def tip_errors(phantom: Path) -> np.ndarray:
    """Distances of the labels' tips, as the evaluation finds them, from the true tips; frames with a wire, px."""
    errors = []
    for name, frame in json.loads((phantom / "truth.json").read_text())["frames"].items():
        mask = cv2.imread(str(phantom / frame["split"] / "masks" / name), cv2.IMREAD_UNCHANGED)
        if (tip := find_tip(mask)) is not None:
            errors.append(np.linalg.norm(tip[::-1] - np.array(frame["tip"])))
    return np.array(errors)


def noisy_logits(label: np.ndarray, seed: int) -> np.ndarray:
    """Logits as sure as a trained network's, wrong in places: smooth noise of 8 px over a widened label."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=label.shape).astype(np.float32), (0, 0), 4)
    noise /= noise.std()
    return 12 * cv2.GaussianBlur(label.astype(np.float32), (0, 0), 1) - 8 + 2 * noise


if __name__ == "__main__":
    main(*sys.argv[1:])
