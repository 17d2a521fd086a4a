import pytest

from nnunet_fganet.cli.main import main

BAD_INPUT = {
    "too_small": (["--size", "32"], "--size is 32"),
    "no_such_folder": (["--json", "{folder}/missing/rows.json"], "there is no folder"),
    "file_exists": (["--json", "{folder}/there.json"], "--force"),
    "folder": (["--json", "{folder}/results", "--force"], "is a folder"),
    "one_file_twice": (["--json", "{folder}/a.png", "--plot", "{folder}/results/../a.png"], "--json and --plot both"),
    "unknown_format": (["--plot", "{folder}/bars.bmp"], ".png, .svg or .pdf"),
    "no_gpu": (["--device", "cuda"], "--device cuda"),
}


def test_a_mistyped_precision_of_the_environment_is_said_before_anything_is_measured(capsys, monkeypatch):
    monkeypatch.setenv("FGANET_PRECISION", "fp32")
    assert main(["benchmark", "--size", "64"]) == 2
    said = capsys.readouterr()
    assert "precision 'fp32' is not known" in said.err and said.err.count("\n") == 1 and not said.out


def test_frames_that_no_memory_holds(capsys):
    assert main(["benchmark", "--size", "9999999"]) == 2
    assert "not enough memory" in capsys.readouterr().err


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_sentence(case, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "there.json").write_text("{}")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mine.txt").touch()
    arguments, expected = BAD_INPUT[case]
    assert main(["benchmark", *(word.format(folder=tmp_path) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1
    assert (tmp_path / "results" / "mine.txt").exists()
