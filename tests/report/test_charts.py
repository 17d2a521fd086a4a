"""Charts, read back from their SVG."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_fganet.report import charts, svg
from nnunet_fganet.report.document import RunDocument, read_run


@pytest.fixture
def run(run_folder: Path) -> RunDocument:
    return read_run(run_folder)


def parsed(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(chart)


def of_class(drawing: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [one for one in drawing.iter() if name in one.get("class", "").split()]


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_round_and_within_the_range(low, width):
    found = svg.ticks(low, low + width)
    assert 1 <= len(found) <= 8
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in found)
    assert "-0" not in [f"{tick:g}" for tick in found]


def test_epochs_are_counted_in_whole_numbers():
    assert svg.ticks(1, 3, least_step=1) == [1, 2, 3]
    assert svg.ticks(1, 16, least_step=1) == [5, 10, 15]


def test_bars_are_as_long_as_their_values(run):
    by_title = {of_class(parsed(chart), "chart-title")[0].text: parsed(chart) for chart in charts.metric_bars(run)}
    dice = [entry["metrics"]["dice"]["value"] for entry in run.summary["entries"]]
    lengths = [float(bar.get("width")) for bar in of_class(by_title["Dice, %"], "bar")]
    assert np.array(lengths) / lengths[0] == pytest.approx(np.array(dice) / dice[0], rel=1e-2)
    assert [text.text for text in of_class(by_title["Dice, %"], "bar-value")] == [
        f"{100 * value:.1f}" for value in dice
    ]
    assert len(of_class(by_title["Dice, %"], "whisker")) == 3
    assert "HD95, px ↓" in by_title


def test_each_training_has_its_line_through_all_epochs(run):
    for chart in charts.training_curves(run):
        lines = of_class(parsed(chart), "line")
        assert len(lines) == 3
        assert {len(line.get("points").split()) for line in lines} == {30}


def test_values_that_are_no_numbers_are_left_out_of_a_curve(run):
    run.summary["entries"][0]["runs"][0]["curves"]["train_loss"][3] = None
    first = of_class(parsed(charts.training_curves(run)[0]), "line")[0]
    assert len(first.get("points").split()) == 29


def test_calibration_is_that_of_all_pixels_together(run):
    counts = [each.figures["calibration"] for each in run.predictions if each.entry == 0]
    pixels, wire, probability = np.sum(counts, axis=0)
    bins = pixels > 0
    chart = parsed(charts.calibration_curves(run))
    axes = svg.Axes((0, 1), (0, 1))
    expected = [
        (axes.x(x), axes.y(y)) for x, y in zip(probability[bins] / pixels[bins], wire[bins] / pixels[bins], strict=True)
    ]
    points = [tuple(map(float, point.split(","))) for point in of_class(chart, "line")[0].get("points").split()]
    assert np.array(points) == pytest.approx(np.array(expected), abs=0.06)


def test_without_probabilities_there_is_no_calibration(run):
    for prediction in run.predictions:
        prediction.figures["calibration"] = None
    assert charts.calibration_curves(run) is None


def test_a_strip_has_a_cell_for_each_frame_in_time_and_names_the_lowest(run):
    cases = ["seq1_010", "seq1_002", "seq1_000"]
    dice = {(entry, case): 0.9 - 0.1 * entry for entry in range(3) for case in cases} | {(1, "seq1_002"): 0.25}
    del dice[2, "seq1_000"]
    drawing = parsed(charts.strip(run, cases, dice))
    cells = of_class(drawing, "cell")
    assert [cell.get("data-case") for cell in cells[:3]] == ["seq1_000", "seq1_002", "seq1_010"]
    assert len(cells) == 9
    assert cells[4].get("fill") == charts.heat(0.25)
    assert cells[6].get("fill") == "none" and "no prediction" in cells[6][0].text
    assert drawing.get("aria-label") == "Dice of 3 frames through time: lowest 0.25, + BGA, seq1_002"


def test_names_are_escaped(run_folder, tmp_path):
    summary = json.loads((run_folder / "summary.json").read_text())
    summary["entries"][0]["title"] = "<b>&\"'"
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    for chart in (*charts.metric_bars(read_run(tmp_path)), charts.calibration_curves(read_run(tmp_path))):
        assert "<b>" not in chart
        parsed(chart)
