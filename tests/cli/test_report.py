"""``fganet report``: the page, its maps, and what it says to bad input."""

import functools
import json
import re
import shutil
from pathlib import Path

import pytest
from run_folder import DATASET, tiny_frames, tiny_sequences, write_run

from nnunet_fganet.cli.main import main


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), tiny_frames(), tiny_sequences())


@pytest.fixture
def run(shared_run: Path, tmp_path: Path) -> Path:
    """A copy of the run folder that a test may damage; the data set stays where it is."""
    return Path(shutil.copytree(shared_run, tmp_path / "run"))


def report(*options: object) -> int:
    return main(["report", *map(str, options)])


def fails(capsys: pytest.CaptureFixture, *options: object) -> str:
    """The sentence that the command ends with."""
    capsys.readouterr()
    assert report(*options) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Traceback" not in said
    return said


def change(run: Path, **values: object) -> None:
    file = run / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_the_page_is_written_into_the_run_folder_and_replaced_only_when_asked(run, capsys):
    assert report(run, "--no-maps", "--frames", 1) == 0
    page = run / "report.html"
    assert f"Report: {page} (" in capsys.readouterr().out
    first = page.read_text()
    assert "exists already" in fails(capsys, run, "--no-maps")
    assert page.read_text() == first
    assert report(run, "--no-maps", "--frames", 2, "--force") == 0
    assert len(page.read_text()) > len(first)
    assert 'id="maps"' not in first


def test_the_run_folder_can_be_moved(run, tmp_path):
    moved = run.rename(tmp_path / "elsewhere")
    assert report(moved, "--no-maps", "--out", tmp_path / "page.html") == 0


def test_no_page_is_left_of_a_run_that_cannot_be_read_to_its_end(run, capsys, tmp_path):
    prediction = next((run / "results").rglob("validation/seq1_000.png"))
    prediction.unlink()
    out = tmp_path / "out" / "page.html"
    assert str(prediction) in fails(capsys, run, "--no-maps", "--out", out)
    assert not out.exists()


def test_what_is_no_run_folder_is_said(run, capsys, tmp_path):
    assert "is not there, or no folder" in fails(capsys, tmp_path / "nothing")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "it is no run folder" in fails(capsys, empty)
    (empty / "comparison.json").write_text("{}")
    assert "its tables are not made yet" in fails(capsys, empty)
    model = next((run / "results").rglob("fold_0")).parent
    (model / "plans.json").write_text("{}")
    assert "single trained model" in fails(capsys, model)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": "compare"}'])
def test_a_damaged_summary_is_named(run, capsys, content):
    (run / "summary.json").write_text(content)
    assert str(run / "summary.json") in fails(capsys, run)


@pytest.mark.parametrize(
    "path",
    [
        *("reference", "frames", "machine", "terms.patch", "selection.by", "costs.fganet.latencies.0.how"),
        *("entries.0.network", "entries.1.metrics.hd95", "entries.1.difference.metrics.dice.low", "paper.0.gflops"),
        *("entries.0.runs.0.frames.3.calibration", "entries.0.runs.0.frames", "entries.2.runs.0.curves.seconds"),
    ],
)
def test_a_summary_of_another_version_is_refused_with_the_name_of_what_it_lacks(run, capsys, path):
    file = run / "summary.json"
    summary = json.loads(file.read_text())
    *outer, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    holder = functools.reduce(lambda value, key: value[key], outer, summary)
    del holder[last]
    file.write_text(json.dumps(summary))
    assert f"{file} lacks {path}, as if written by another version" in fails(capsys, run, "--no-maps")


def test_entries_without_frames_are_refused(run, capsys):
    summary = json.loads((run / "summary.json").read_text())
    summary["entries"][1]["runs"][0]["frames"] = []
    change(run, entries=summary["entries"])
    assert "lacks entries.1.runs.0.frames" in fails(capsys, run, "--no-maps")
    change(run, entries=[])
    assert "lacks entries" in fails(capsys, run, "--no-maps")


def test_a_data_set_that_is_gone_is_named(run, capsys, tmp_path):
    change(run, images=str(tmp_path / "gone"))
    assert f"names {tmp_path / 'gone'}, which is gone" in fails(capsys, run, "--no-maps")


def test_a_page_has_a_name_of_a_page(run, capsys, tmp_path):
    assert "end it with .html" in fails(capsys, run, "--out", tmp_path / "page.pdf")
    (tmp_path / "page.html").mkdir()
    assert "is a folder" in fails(capsys, run, "--out", tmp_path / "page.html")


def test_maps_need_the_weights(run, capsys):
    said = fails(capsys, run)
    assert "checkpoint_final.pth is gone" in said and "--no-maps" in said
    assert not (run / "report.html").exists()


@pytest.mark.slow
def test_maps_with_and_without_sda_are_of_one_place_in_the_decoder(tmp_path, capsys):
    run = write_run(tmp_path, tiny_frames(), tiny_sequences(), models=True)
    assert (run / "results" / DATASET).is_dir()
    assert report(run, "--frames", 1) == 0
    assert "Map 6 of 6" in capsys.readouterr().out
    page = (run / "report.html").read_text()
    section = re.search(r'<section id="maps".*?</section>', page, re.DOTALL)[0]
    layers = re.findall(r"(decoder\.[\w.]+) \((\w+)\)", section)
    assert [kind for _, kind in layers] == ["SDA", "Identity"] * 3
    assert len({name for name, _ in layers}) == 1
    assert section.count("data:image/jpeg") == 9
    assert '"sda": false' in page.replace("&#34;", '"')
