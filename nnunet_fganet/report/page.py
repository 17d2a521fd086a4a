"""The page itself: one HTML file with its style, script, data and pictures inside."""

import datetime
import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from nnunet_fganet import __version__
from nnunet_fganet.explanation.overlay import WIRE
from nnunet_fganet.report import charts, gallery, pictures, tables
from nnunet_fganet.report.document import RunDocument
from nnunet_fganet.report.maps import Wanted, make_maps
from nnunet_fganet.report.metrics import OF_A_FRAME

_TEMPLATES = importlib.resources.files("nnunet_fganet.report") / "templates"
_TITLES = {"compare": "Comparison", "ablate": "Ablation"}


def render_page(run: RunDocument, frames: int, maps: list[list[Wanted]]) -> str:
    """Make the page.

    Parameters
    ----------
    run
        The run folder.
    frames
        How many worst and how many best frames of each entry have pictures.
    maps
        Grad-CAM++ maps to make, see :func:`nnunet_fganet.report.maps.wanted_maps`.

    Raises
    ------
    InputError
        A file that the run names cannot be read.
    """
    files = gallery.FrameFiles(run)
    cases = gallery.pictured_cases(run.predictions, frames)
    print(f"Pictures of {len(cases)} of {len(run.sequences)} frames", flush=True)
    data = gallery.payload(run, files, cases)
    print("Sequences through time", flush=True)
    sequences = gallery.sequences_of(run, files)
    shown_maps = make_maps(run, files, maps)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html").render(
        title=f"{_TITLES.get(run.summary['kind'], run.summary['kind'])} on {run.summary['terms']['dataset']}",
        run=run,
        summary=run.summary,
        colours=charts.COLOURS,
        dashes=charts.DASHES,
        figure_tables=tables.figure_tables(run),
        difference_tables=tables.difference_tables(run),
        cost_table=tables.cost_table(run),
        training_table=tables.training_table(run),
        paper_table=tables.paper_table(run),
        provenance=tables.provenance(run),
        plans=_plans(run),
        bars=charts.metric_bars(run),
        curves=charts.training_curves(run),
        calibration=charts.calibration_curves(run),
        sequences=sequences,
        several=run.has_several,
        all_sequences=len(set(run.sequences.values())),
        maps=shown_maps,
        heat=[charts.heat(step / 10) for step in range(11)],
        data=data,
        columns=[
            {"title": shown.title, "percent": shown.percent, "yes": shown.key == "one_piece"} for shown in OF_A_FRAME
        ],
        pictured=len(cases),
        frames_of_each=frames,
        errors={"found": pictures.FOUND, "missed": pictures.MISSED, "false": pictures.FALSE},
        layers={"label": pictures.LABEL, "prediction": pictures.PREDICTION, "wire": WIRE},
        made=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        version=__version__,
    )


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _plans(run: RunDocument) -> list[tuple[str, str]]:
    """The configuration that trained each entry, from the plans that nnU-Net keeps beside its weights."""
    shown = []
    for entry in run.summary["entries"]:
        first = entry["runs"][0]
        configuration = _configuration(run.root / first["model"] / "plans.json", first["configuration"])
        if configuration is not None:
            shown.append((entry["title"], json.dumps(configuration, indent=1)))
    return shown


def _configuration(file: Path, name: str) -> Mapping[str, Any] | None:
    """A configuration with all that it inherits; None where the plans are gone."""
    try:
        configurations = json.loads(file.read_text(encoding="utf-8"))["configurations"]
        own = configurations[name]
        parent = own.get("inherits_from")
        return {**configurations.get(parent, {}), **own} if parent else own
    except (OSError, ValueError, KeyError):
        return None
