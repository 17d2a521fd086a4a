"""Scores pooled over folds and seeds, and the tables, from frames with known figures."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnunet_fganet.comparison import page, table
from nnunet_fganet.comparison.costs import PLAIN, PREPARED, Cost, Latency
from nnunet_fganet.comparison.curves import Curves, flatness
from nnunet_fganet.comparison.entries import compared_entries
from nnunet_fganet.comparison.page import Findings
from nnunet_fganet.comparison.paper import TABLE_1, TABLE_2
from nnunet_fganet.comparison.runs import Run, RunFolder
from nnunet_fganet.comparison.scores import score_entries
from nnunet_fganet.evaluation.frame import measure_frame
from nnunet_fganet.evaluation.summary import Figure

SIZE = 20
GROUPS = {f"case{i}": f"sequence{i // 2}" for i in range(8)}
[FGANET, UNET] = compared_entries(["fganet", "unet"])
COSTS = {
    "fganet": Cost(
        45_149_860,
        106_150_000_000,
        75_364_000_000,
        (Latency(PLAIN, "float32", 900, 880, 950), Latency(PREPARED, "bfloat16", 300, 290, 310)),
    ),
    "unet": Cost(7_770_000, 48_280_000_000, 54_980_000_000, (Latency(PLAIN, "float32", 250, 240, 260),)),
}
FLAT = Curves(list(np.exp(-np.arange(50.0))), [1.0] * 50, [0.5] * 50, [0.1] * 50, [2.0] * 50)
FALLING = Curves(list(np.linspace(2, 1, 50)), [1.0] * 50, [float("nan")] * 50, [0.1] * 50, [2.0] * 50)


def frames(cases, wanted):
    """Frames whose wire of 20 px is found in ``wanted(i)`` of its pixels, and nothing else is."""
    measured = []
    for case in cases:
        label, found = np.zeros((SIZE, SIZE), bool), np.zeros((SIZE, SIZE), bool)
        label[10] = True
        found[10, : wanted(int(case[4:]))] = True
        probability = np.where(found, 0.9, 0.1).astype(np.float32)
        measured.append(measure_frame(case, label, found, probability=probability))
    return {"guidewire": measured}


def two_folds(entry, wanted, seed=0):
    cases = list(GROUPS)
    return {
        Run(entry, 0, seed): frames(cases[:4], wanted),
        Run(entry, 1, seed): frames(cases[4:], wanted),
    }


def test_folds_are_joined_and_differences_are_paired():
    measured = two_folds(FGANET, lambda i: 18 - i) | two_folds(UNET, lambda i: 16 - i)
    [ours, theirs] = score_entries(measured, GROUPS, "fganet")
    expected = 2 * sum(18 - i for i in range(8)) / (sum(18 - i for i in range(8)) + 8 * 20)
    assert ours.summary.mean["dice"].value == pytest.approx(expected)
    assert (ours.summary.frames, ours.summary.groups) == (8, 4)
    assert ours.difference is None
    difference = theirs.difference.mean["recall"]
    assert difference.value == pytest.approx(0.1)
    # All frames differ alike, so the paired interval is narrow though each figure's own is wide.
    assert (difference.low, difference.high) == pytest.approx((0.1, 0.1))
    assert ours.summary.mean["recall"].high - ours.summary.mean["recall"].low > 0.1


def test_seeds_are_averaged_frame_by_frame():
    measured = two_folds(FGANET, lambda i: 20, seed=0) | two_folds(FGANET, lambda i: 10, seed=1)
    [scores] = score_entries(measured, GROUPS, "fganet")
    assert scores.summary.mean["recall"].value == pytest.approx(0.75)
    assert {seed: summary.mean["recall"].value for seed, summary in scores.seeds.items()} == {0: 1.0, 1: 0.5}
    # Every sequence has both seeds, so that other sequences would have given the same: no width from the seeds.
    assert scores.summary.mean["recall"].high == pytest.approx(0.75)


def test_entries_may_have_different_numbers_of_seeds():
    measured = two_folds(FGANET, lambda i: 20) | two_folds(UNET, lambda i: 20) | two_folds(UNET, lambda i: 16, 1)
    scores = score_entries(measured, GROUPS, "fganet")
    assert scores[1].difference.mean["recall"].value == pytest.approx(0.1)


def test_without_fganet_there_are_no_differences():
    [scores] = score_entries(two_folds(UNET, lambda i: 20), GROUPS, None)
    assert scores.difference is None


@pytest.mark.parametrize(
    ("key", "figure", "cell"),
    [
        ("dice", Figure(0.71294, 0.68, 0.7404, 8), "71.3 (68.0 to 74.0)"),
        ("betti0_error", Figure(1.25, 1, 1.5, 8), "1.25 (1.00 to 1.50)"),
        ("hd95", Figure(3.5, math.nan, math.nan, 8), "3.50"),
        ("auc", Figure(math.nan, math.nan, math.nan, 0), "-"),
    ],
)
def test_cells_of_figures(key, figure, cell):
    assert table.figure_cell(key, figure) == cell


@pytest.mark.parametrize(
    ("key", "figure", "cell"),
    [
        ("dice", Figure(0.027, 0.011, 0.043, 8), "+2.7 (+1.1 to +4.3)"),
        ("dice", Figure(-0.027, -0.043, -0.011, 8), "-2.7 (-4.3 to -1.1)"),
        ("dice", Figure(0.027, -0.001, 0.05, 8), "none found (-0.1 to +5.0)"),
        ("betti0_error", Figure(0.0, 0.0, 0.0, 8), "none found (+0.00 to +0.00)"),
        ("auc", Figure(math.nan, math.nan, math.nan, 0), "-"),
    ],
)
def test_a_difference_whose_interval_holds_zero_is_none(key, figure, cell):
    assert table.difference_cell(key, figure) == cell


def test_the_papers_rows_are_its_own():
    """Its claims: 2.7 points of Dice over the best comparator, and clDice worth 3.2."""
    best = max(row.dice for row in TABLE_1[:-1])
    assert TABLE_1[-1].dice - best == pytest.approx(2.69)
    assert TABLE_2[-1].dice - TABLE_2[-2].dice == pytest.approx(3.18)
    shared = ("auc", "macro_f1", "dice", "miou", "oiou")
    ablated = [getattr(TABLE_2[-1], key) for key in shared]
    assert ablated == pytest.approx(
        [getattr(TABLE_1[-1], key) for key in shared], abs=0.04
    )  # its AUC is misprinted once


@pytest.fixture
def findings():
    measured = two_folds(FGANET, lambda i: 18 - i) | two_folds(UNET, lambda i: 16 - i)
    curves = {run: FLAT if run.entry == FGANET else FALLING for run in measured}
    terms = {"kind": "compare", "dataset": "Dataset501_TCGSeg", "epochs": 50, "iterations": 9, "batch": 2}
    return Findings(
        kind="compare",
        reference="fganet",
        record=terms | {"patch": [64, 96], "device": "cpu"},
        selection={"folds": [0, 1], "seeds": [0], "by": "sequence"},
        scores=score_entries(measured, GROUPS, "fganet"),
        costs=COSTS,
        trainings=[(run, each, flatness(each.train_loss)) for run, each in curves.items()],
        groups=GROUPS,
        paper=TABLE_1,
        machine="a machine",
        missing=[],
    )


def row(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"| {start}"))


def test_the_page_has_all_tables_and_marks_what_is_no_result(findings):
    text = page.as_page(findings)
    assert "8 validation frames of 4 sequences; folds 0, 1; seeds 0. Each training: 50 epochs of 9 batches" in text
    figures, rest = text.split("## FGA-Net minus the other")
    assert f"{100 * findings.scores[0].summary.mean['dice'].value:.1f} (" in row(figures, "FGA-Net")
    assert "FGA-Net *" not in text
    assert row(figures, "U-Net *") and row(rest, "U-Net *")
    assert "The loss of 2 of 4 trainings had not become flat" in figures
    assert "45.15" in row(rest, "FGA-Net, plain") and "106.15" in row(rest, "FGA-Net, plain")
    assert "75.36" in row(rest, "FGA-Net, plain") and "900.0 (880.0 to 950.0)" in row(rest, "FGA-Net, plain")
    assert "bfloat16" in row(rest, "FGA-Net, prepared")
    assert row(rest, "FGA-Net (paper)").split("|")[4].strip() == "71.29"
    trained = row(rest.split("## Trainings")[1], "U-Net")
    assert "still falling" in trained and "2 min" in trained


def test_differences_from_a_reference_that_is_no_result_are_marked(findings):
    falling = [
        (run, FALLING, flatness(FALLING.train_loss)) if run.entry == FGANET else (run, FLAT, flatness(FLAT.train_loss))
        for run, _, _ in findings.trainings
    ]
    figures, rest = page.as_page(replace(findings, trainings=falling)).split("## FGA-Net minus the other")
    assert row(figures, "FGA-Net *") and row(figures, "U-Net  ")
    assert row(rest.split("## Cost")[0], "U-Net *")


def test_the_page_says_that_intervals_are_not_about_other_trainings(findings):
    said = "intervals are about other frames and do not say how much another training"
    one, two = (
        page.as_page(replace(findings, selection=findings.selection | {"seeds": seeds})) for seeds in ([0], [0, 1])
    )
    assert f"One seed: the {said}" in one and f"2 seeds: the {said}" in two
    assert "see 'Dice of the seed, all folds' in" in two
    assert row(two.split("## Trainings")[1], "  ").split("|")[-2].strip() == "Dice of the seed, all folds"


def test_the_page_speaks_of_prepared_networks_where_there_are_any(findings):
    assert "prepared: FGA-Net as nnUNetv2_predict runs it" in page.as_page(findings)
    fganet = replace(COSTS["fganet"], latencies=COSTS["fganet"].latencies[:1])
    assert "prepared" not in page.as_page(replace(findings, costs=COSTS | {"fganet": fganet}))


def test_rows_have_one_width(findings):
    """Readable in a terminal: the cells of a column are padded."""
    for block in page.as_page(findings).split("\n\n"):
        if block.startswith("|"):
            assert len({len(line) for line in block.splitlines()}) == 1


def test_the_csv_has_each_metric_and_its_difference(findings, tmp_path: Path):
    table.write_csv(tmp_path / "table.csv", findings.scores)
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = {(each["entry"], each["class"], each["metric"]): each for each in csv.DictReader(file)}
    recall = rows["unet", "guidewire", "recall"]
    assert float(recall["difference"]) == pytest.approx(0.1)
    assert recall["difference_found"] == "1"
    assert rows["fganet", "guidewire", "recall"]["difference"] == ""
    assert rows["fganet", "mean", "tip_error_mm"]["value"] == ""


def test_the_summary_tells_everything_to_the_report(findings, tmp_path: Path):
    folder = RunFolder(tmp_path, "Dataset501_TCGSeg", "P")
    document = page.as_document(findings, folder, tmp_path / "labelsTr", tmp_path / "imagesTr", ".png")
    page.write_document(tmp_path / "summary.json", document)
    read = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    [ours, theirs] = read["entries"]
    assert ours["difference"] is None
    assert theirs["difference"]["metrics"]["recall"]["found"] is True
    assert theirs["metrics"]["dice"]["value"] == pytest.approx(findings.scores[1].summary.mean["dice"].value)
    assert ours["seeds"]["0"]["metrics"] == ours["metrics"]
    assert [run["fold"] for run in ours["runs"]] == [0, 1]
    run = theirs["runs"][1]
    assert run["flatness"]["verdict"] == "still falling"
    assert run["curves"]["pseudo_dice"][0] is None
    frame = run["frames"][0]
    assert (frame["case"], frame["class"], frame["true_positive"]) == ("case4", "guidewire", 12)
    model = "results/Dataset501_TCGSeg/nnUNetTrainerComparator__P__2d_unet_seed0"
    assert frame["prediction"] == f"{model}/fold_1/validation/case4.png"
    assert np.sum(frame["calibration"][0]) == SIZE * SIZE
    assert read["costs"]["fganet"]["latencies"][1]["milliseconds"] == 300
    assert read["groups"] == GROUPS
    assert read["versions"]["nnunetv2"] and read["paper"][5]["dice"] == 71.29
    assert any("not become flat" in note for note in read["notes"])
