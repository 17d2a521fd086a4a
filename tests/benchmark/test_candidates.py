import pytest

from nnunet_fganet.benchmark.inference import candidates


@pytest.mark.parametrize("compiler", ["g++", None])
def test_without_a_compiler_nothing_is_compiled_and_said_so(compiler, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: compiler)
    monkeypatch.setattr("nnunet_fganet.benchmark.inference.cpu_has_bfloat16_units", lambda: True)
    said = []
    names = [candidate.name for candidate in candidates("cpu", said.append)]
    assert names[0] == "reference"
    assert ("compiled-float32" in names) == ("compiled-bfloat16" in names) == (compiler is not None)
    assert ("nothing is compiled" in "".join(said)) == (compiler is None)


def test_without_its_units_bfloat16_is_measured_but_not_compiled(monkeypatch):
    monkeypatch.setattr("nnunet_fganet.benchmark.inference.cpu_has_bfloat16_units", lambda: False)
    said = []
    names = [candidate.name for candidate in candidates("cpu", said.append)]
    assert "bfloat16" in names and "compiled-bfloat16" not in names
    assert "no units for bfloat16" in said[0]
