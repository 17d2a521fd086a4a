"""The page's markup, and its tables."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from run_folder import HOSTILE_CASE, HOSTILE_SEQUENCE

from nnunet_fganet.report import tables
from nnunet_fganet.report.document import read_run
from nnunet_fganet.report.page import render_page


class Elements(HTMLParser):
    """Counts elements and collects what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.kinds.append(tag)
        given = dict(attrs)
        self.references += [given[name] or "" for name in ("src", "href", "data", "poster") if name in given]
        self.ids += [given["id"] or ""] if "id" in given else []


@pytest.fixture(scope="module")
def markup(page_file: Path) -> str:
    return page_file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def elements(markup: str) -> Elements:
    parser = Elements()
    parser.feed(markup)
    return parser


def test_the_page_refers_to_nothing_outside_of_it(elements, markup):
    assert len(elements.references) > 10
    for reference in elements.references:
        assert reference.startswith(("data:", "#")), reference
    assert not re.search(r"@import|url\(", markup)
    assert "default-src 'none'" in markup


def test_links_lead_to_sections_that_are_there_and_ids_are_unique(elements):
    assert len(set(elements.ids)) == len(elements.ids)
    assert {link[1:] for link in elements.references if link.startswith("#")} <= set(elements.ids)


def test_hostile_names_make_no_elements(elements, markup):
    assert elements.kinds.count("script") == 2
    assert "x" not in elements.kinds
    assert HOSTILE_CASE not in markup and HOSTILE_SEQUENCE not in markup
    data = json.loads(re.search(r'id="data">(.*?)</script>', markup, re.DOTALL)[1])
    assert HOSTILE_CASE in {row["case"] for row in data["rows"]}
    assert HOSTILE_SEQUENCE in {row["sequence"] for row in data["rows"]}


def test_the_page_says_what_made_it(markup):
    for said in ("nnUNetFGANetPlans_run", "Dataset501_TCGSeg", "a machine of the tests", "torch", "96 x 96"):
        assert said in markup
    assert "have pictures: the 2 worst" in markup


def test_sequences_whose_names_differ_only_by_case_are_counted_apart(run_folder):
    run = read_run(run_folder)
    names = dict(zip(run.summary["groups"], ["Wire", "wire", "WIRE"] * 3, strict=True))
    run.summary["groups"] = names
    assert "9 validation frames of 3 sequences" in render_page(run, 1, [])


def test_the_best_of_each_column_is_marked_and_ties_are_not(run_folder):
    paper, shape = tables.figure_tables(read_run(run_folder))
    best = [[cell.style for cell in row[1:]] for row in paper.rows]
    assert best == [[""] * 5, [""] * 5, ["best"] * 5]
    betti1 = shape.header.index("Betti-1 error ↓")
    assert {row[betti1].style for row in shape.rows} == {""}  # all of them made no holes
    hd95 = [row[shape.header.index("HD95, px ↓")] for row in shape.rows]
    assert min(hd95, key=lambda cell: cell.value).style == "best"


def test_differences_are_those_of_the_summary(run_folder):
    run = read_run(run_folder)
    paper, _ = tables.difference_tables(run)
    assert [row[0].text for row in paper.rows] == ["Baseline", "+ BGA"]
    figure = run.summary["entries"][0]["difference"]["metrics"]["dice"]
    assert paper.rows[0][3].text.startswith(f"{100 * figure['value']:+.1f} ({100 * figure['low']:+.1f} to ")
    assert paper.rows[0][3].style == "found"


def test_a_training_whose_loss_still_falls_marks_its_rows(run_folder):
    run = read_run(run_folder)
    run.summary["entries"][1]["runs"][0]["flatness"] = {"fall": 0.3, "is_flat": False, "verdict": "still falling"}
    assert [row[0].text for row in tables.figure_tables(run)[0].rows][1] == "+ BGA *"
    assert tables.training_table(run).rows[1][-1] == tables.Cell("still falling", style="warning")
    assert tables.training_table(run).rows[1][-2].text == "30.0"


def test_a_row_that_is_no_result_is_not_the_best(run_folder):
    run = read_run(run_folder)
    waiting = run.summary["entries"][2]
    waiting["runs"][0]["flatness"]["is_flat"] = False
    paper, _ = tables.figure_tables(run)
    assert [[cell.style for cell in row[1:]] for row in paper.rows] == [[""] * 5, ["best"] * 5, [""] * 5]
    differences = tables.difference_tables(run)[0].rows
    assert [row[0].text for row in differences] == ["Baseline *", "+ BGA *"]
    assert not any(cell.style == "found" for row in differences for cell in row)


def test_costs_are_listed_once_for_each_network(run_folder):
    table = tables.cost_table(read_run(run_folder))
    assert len(table.rows) == 3
    assert [cell.text for cell in table.rows[0][1:5]] == ["1.20", "3.40", "3.60", "80.0 (78.0 to 85.0)"]


def test_the_cost_of_a_network_has_its_own_title_and_not_that_of_a_loss_that_trained_it(run_folder):
    run = read_run(run_folder)
    other_loss = {**run.summary["entries"][2], "name": "both_dice", "title": "Both, BCE + Dice"}
    run.summary["entries"].insert(2, other_loss)
    table = tables.cost_table(run)
    assert [row[0].text for row in table.rows] == ["Baseline, plain", "+ BGA, plain", "FGA-Net, plain"]
    assert table.entries == [0, 1, 3]


def test_without_a_reference_there_are_no_differences(run_folder, tmp_path):
    summary = json.loads((run_folder / "summary.json").read_text())
    summary["reference"] = None
    for entry in summary["entries"]:
        entry["difference"] = None
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    run = read_run(tmp_path)
    assert tables.difference_tables(run) == []
    assert run.reference == 0
