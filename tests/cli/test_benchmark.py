import json

import pytest

from nnunet_fganet.benchmark.rows import Row
from nnunet_fganet.cli.main import main

AGREEING = ("gather-float32", "float32", "compiled-float32", "onnxruntime", "openvino")
BAD_INPUT = {
    "too_small": (["--size", "32"], "--size is 32"),
    "no_such_folder": (["--json", "{folder}/missing/rows.json"], "there is no folder"),
    "file_exists": (["--json", "{folder}/there.json"], "--force"),
    "unknown_format": (["--plot", "{folder}/bars.bmp"], ".png, .svg or .pdf"),
    "no_gpu": (["--device", "cuda"], "--device cuda"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_sentence(case, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "there.json").write_text("{}")
    arguments, expected = BAD_INPUT[case]
    assert main(["benchmark", *(word.format(folder=tmp_path) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_frame(nnunet, tmp_path):
    rows_file, plot = tmp_path / "rows.json", tmp_path / "bars.png"
    # In a process of its own: torch's compile workers stay alive in the process that compiled.
    output = nnunet.run("fganet", "benchmark", "--size", "64", "--runs", "3", "--json", rows_file, "--plot", plot)
    rows = {row["name"]: row for row in json.loads(rows_file.read_text())}
    assert rows.keys() >= {
        "reference",
        "gather-float32",
        "float32",
        "compiled-float32",
        "bfloat16",
        "onnxruntime",
        "openvino",
    }
    table = output.partition("agreement\n")[2].partition("\n\n")[0]
    assert rows.keys() <= {line.split()[0] for line in table.splitlines()}
    for row in rows.values():
        assert row.keys() == set(Row.__dataclass_fields__)
        assert (row["device"], row["size"], row["runs"]) == ("cpu", 64, 3)
        assert row["fastest"] <= row["milliseconds"] <= row["slowest"]
    assert rows["reference"]["ratio"] == rows["reference"]["agreement"] == 1
    for name in AGREEING:
        assert rows[name]["agreement"] >= 0.98, name
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "deformable convolutions" in output
