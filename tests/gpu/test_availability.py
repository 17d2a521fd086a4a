import pytest
import torch

from nnunet_fganet.cli.doctor import State, check_kernels
from nnunet_fganet.gpu import availability
from nnunet_fganet.network.deform_conv import choose_backend


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A machine where Triton works, as far as can be asked."""
    (tmp_path / "Python.h").touch()
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(availability.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(availability.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    availability.has_triton.cache_clear()
    yield tmp_path
    availability.has_triton.cache_clear()


def test_a_gpu_with_triton_samples_by_its_kernels(gpu):
    assert availability.has_triton()
    assert choose_backend("auto", "cuda", torch.float16) == "triton"
    assert choose_backend("auto", "cuda", torch.float64) == "torchvision"
    assert not availability.runs_kernels(torch.device("cpu"), torch.float32)
    assert check_kernels().state is State.OK


LACKING = {
    "triton": "Triton, which comes",
    "gpu": "a GPU that torch can use",
    "recent_gpu": "a GPU of compute capability 7.0",
    "compiler": "a C compiler",
    "headers": "Python.h",
}


@pytest.mark.parametrize("lacking", LACKING)
def test_where_triton_cannot_compile_torchvision_computes(gpu, monkeypatch, lacking):
    if lacking == "triton":
        monkeypatch.setattr(availability.importlib.util, "find_spec", lambda name: None)
    elif lacking == "gpu":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    elif lacking == "recent_gpu":
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (6, 1))
    elif lacking == "compiler":
        monkeypatch.delenv("CC")
        monkeypatch.setattr(availability.shutil, "which", lambda name: None)
    else:
        (gpu / "Python.h").unlink()
    assert LACKING[lacking] in availability.what_triton_lacks()
    assert not availability.has_triton()
    assert choose_backend("auto", "cuda", torch.float16) == "torchvision"
    finding = check_kernels()
    assert finding.state is State.NOTE and LACKING[lacking] in finding.found


def test_a_recorded_graph_takes_the_answer_as_it_is(monkeypatch):
    """Looking for compilers would break the graph at every deformable convolution."""
    find_spec = availability.importlib.util.find_spec

    def find_and_break(name):
        torch._dynamo.graph_break()
        return find_spec(name)

    monkeypatch.setattr(availability.importlib.util, "find_spec", find_and_break)
    availability.has_triton.cache_clear()

    def chosen(x):
        return x + (choose_backend("auto", "cuda", torch.float16) == "triton")

    answer = torch.compile(chosen, backend="eager", fullgraph=True)(torch.zeros(1))
    assert answer == availability.has_triton()
