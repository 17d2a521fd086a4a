"""``python -m nnunet_fganet.demo``: phantom, convert, plan, train, predict, score."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from nnunet_fganet.commands.running import WAITING_THREADS, terminated_like_interrupted
from nnunet_fganet.commands.scripts import find_script
from nnunet_fganet.commands.watchers import EpochWatcher, FrameWatcher, keep_silent
from nnunet_fganet.demo.picture import PicturedFrame, evenly_spaced, write_contact_sheet
from nnunet_fganet.demo.scores import FrameScore, measure_latency, read_mask, score_frames, table_of, write_scores
from nnunet_fganet.demo.steps import Step, run_steps
from nnunet_fganet.errors import InputError, describe_os_error
from nnunet_fganet.precision import describe_cpu

FOLDER = Path("demo")
DATASET = "Dataset501_TCGSeg"
TRAINER, PLANS = "nnUNetTrainerFGANet", "nnUNetFGANetPlans"

PICTURED_FRAMES = 8
TIMED_FRAMES = 20


@dataclass(frozen=True)
class Size:
    """How much the demo draws and trains.

    The defaults take two CPU cores about seven minutes to train. A small network and few iterations
    want a higher learning rate: with SGD at 0.2 and momentum 0.9 the wires are found
    after 150 iterations, at 0.01 and 0.99 (for long trainings) not after 250.
    """

    sequences: int = 120
    frames: int = 4
    pixels: int = 128
    epochs: int = 30
    iterations: int = 40
    validation_iterations: int = 3
    batch: int = 4
    widths: tuple[int, ...] = (8, 16, 32, 64, 128, 128)
    learning_rate: float = 0.2
    momentum: float = 0.9

    @property
    def phantom_options(self) -> list[str]:
        """Options of ``fganet phantom``."""
        return _words("--sequences", self.sequences, "--frames", self.frames, "--size", self.pixels, "--seed", 1)

    @property
    def plan_options(self) -> list[str]:
        """Options of ``fganet plan``."""
        length = ("--epochs", self.epochs, "--iterations", self.iterations)
        validation = ("--validation-iterations", self.validation_iterations)
        optimizer = ("--batch", self.batch, "--learning-rate", self.learning_rate, "--momentum", self.momentum)
        return _words(*length, *validation, *optimizer, "--widths", *self.widths)


def main(folder: Path = FOLDER, size: Size = Size()) -> int:
    """Run what is not done yet, score, and name picture and table; returns the exit code."""
    folder = folder.absolute()
    print(f"The pipeline on phantom frames, on the CPU, in {folder}. Ctrl-C stops it; make demo goes on from there.")
    try:
        with terminated_like_interrupted():
            run_steps(steps(folder, size), folder, environment(folder))
            report(folder)
    except InputError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"demo: {describe_os_error(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ndemo: interrupted; make demo goes on from here, make clean removes what there is.", file=sys.stderr)
        return 130
    return 0


def environment(folder: Path) -> dict[str, str]:
    """Environment of the commands: nnU-Net's folders inside ``folder``, workers for two cores."""
    nnunet_folders = {name: str(folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for path in nnunet_folders.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    workers = {"nnUNet_def_n_proc": "2", "nnUNet_n_proc_DA": "2", **WAITING_THREADS}
    return {**os.environ, **nnunet_folders, **workers, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}


def steps(folder: Path, size: Size) -> list[Step]:
    """Commands of the demo, in order."""
    phantom, raw, predictions = folder / "phantom", folder / "nnUNet_raw" / DATASET, folder / "predictions"
    names = ["-tr", TRAINER, "-p", PLANS]
    predict = ["-i", raw / "imagesTs", "-o", predictions, "-d", "501", "-c", "2d", "-f", "0", *names, "-device", "cpu"]
    return [
        Step(
            "phantom",
            "Draw phantom sequences with known guidewires",
            _command("fganet", "phantom", phantom, *size.phantom_options),
            phantom,
        ),
        Step("convert", "Convert them to an nnU-Net data set", _command("fganet", "convert", phantom), raw),
        Step(
            "plan",
            "Plan and preprocess for a small FGA-Net",
            _command("fganet", "plan", "501", *size.plan_options),
            folder / "nnUNet_preprocessed" / DATASET,
            watch=keep_silent,
        ),
        Step(
            "train",
            "Train with nnU-Net (about seven minutes on two cores)",
            _command("nnUNetv2_train", "501", "2d", "0", *names, "-device", "cpu"),
            folder / "nnUNet_results" / DATASET,
            resume=["--c"],
            watch=EpochWatcher(size.epochs),
        ),
        Step(
            "predict",
            "Predict the frames of sequences that were not trained on",
            _command("nnUNetv2_predict", *predict, "-npp", "1", "-nps", "1"),
            predictions,
            watch=FrameWatcher(),
        ),
    ]


def report(folder: Path) -> None:
    """Score the predictions; print the table, write it beside the picture, name both."""
    raw, predictions = folder / "nnUNet_raw" / DATASET, folder / "predictions"
    print("\nScores", flush=True)
    scores = score_frames(raw / "labelsTs", predictions)
    pictured = [_pictured(score, raw, predictions) for score in evenly_spaced(scores, PICTURED_FRAMES)]
    frames = [raw / "imagesTs" / f"{score.case}_0000.png" for score in scores]
    model = folder / "nnUNet_results" / DATASET / f"{TRAINER}__{PLANS}__2d"
    latency = measure_latency(model, evenly_spaced(frames, TIMED_FRAMES))
    height, width = pictured[0].frame.shape
    table = table_of(scores, latency, f"{describe_cpu()}; frames of {height} x {width} px")
    (folder / "scores.md").write_text(table, encoding="utf-8")
    write_scores(folder / "scores.csv", scores)
    write_contact_sheet(folder / "overlays.png", pictured)
    print(f"\n{table}")
    print(f"Table:   {folder / 'scores.md'} (each frame: {folder / 'scores.csv'})")
    print(f"Picture: {folder / 'overlays.png'}")


def _pictured(score: FrameScore, raw: Path, predictions: Path) -> PicturedFrame:
    frame = read_mask(raw / "imagesTs" / f"{score.case}_0000.png")
    label, prediction = read_mask(raw / "labelsTs" / f"{score.case}.png"), read_mask(predictions / f"{score.case}.png")
    return PicturedFrame(score.case, frame, label, prediction, score.counts.dice)


def _command(program: str, *arguments: object) -> list[str]:
    """Name a program of this Python environment with its arguments."""
    return [str(find_script(program)), *_words(*arguments)]


def _words(*words: object) -> list[str]:
    return [str(word) for word in words]


if __name__ == "__main__":
    sys.exit(main())
