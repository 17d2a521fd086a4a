"""A run folder, its page, and a browser without a window."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Playwright, sync_playwright
from run_folder import tiny_frames, tiny_sequences, write_run

from nnunet_fganet.cli.main import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder; it is only read."""
    return write_run(tmp_path_factory.mktemp("report"), tiny_frames(), tiny_sequences())


@pytest.fixture(scope="session")
def page_file(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page, with pictures of the two worst and two best frames of each network."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    assert main(["report", str(run_folder), "--out", str(file), "--frames", "2", "--no-maps"]) == 0
    return file


@pytest.fixture(scope="session")
def page_of_two_seeds(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the same run with a second seed, whose figures are made up."""
    root = Path(shutil.copytree(run_folder, tmp_path_factory.mktemp("seeds") / "run"))
    summary = json.loads((root / "summary.json").read_text())
    for entry in summary["entries"]:
        [first] = entry["runs"]
        frames = [{**frame, "dice": frame["dice"] / 2} for frame in first["frames"]]
        entry["runs"].append({**first, "seed": 1, "frames": frames})
    (root / "summary.json").write_text(json.dumps(summary))
    assert main(["report", str(root), "--frames", "9", "--no-maps"]) == 0
    return root / "report.html"


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """The driver of the browser; the test is left out where there is none."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium to look at the page with (on Debian: apt install chromium)")
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """Debian's Chromium with a new profile."""
    profile = tmp_path_factory.mktemp("profile")
    context = playwright.chromium.launch_persistent_context(
        profile, executable_path=CHROMIUM, headless=True, args=SWITCHES, viewport={"width": 1280, "height": 900}
    )
    yield context
    context.close()
