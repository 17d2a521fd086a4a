import pytest
import torch

from nnunet_fganet.benchmark.inference import candidates
from nnunet_fganet.cli.doctor import State, check_kernels
from nnunet_fganet.gpu import availability
from nnunet_fganet.network.deform_conv import choose_backend


@pytest.fixture(autouse=True)
def asked_anew():
    """Answers are kept for the whole process."""
    ask = availability.what_kernels_need
    ask.cache_clear()
    yield
    ask.cache_clear()


@pytest.fixture
def gpu(monkeypatch):
    """A machine where Triton works, as far as can be asked."""
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: (9, 0))
    monkeypatch.setattr(availability.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(availability, "_compile_a_kernel", lambda: None)


def test_a_gpu_with_triton_samples_by_its_kernels(gpu):
    assert availability.has_triton()
    assert choose_backend("auto", "cuda", torch.float16) == "triton"
    assert choose_backend("auto", "cuda", torch.float64) == "torchvision"
    assert not availability.runs_kernels(torch.device("cpu"), torch.float32)
    assert check_kernels().state is State.OK
    names = [candidate.name for candidate in candidates("cuda", pytest.fail)]
    assert names == ["reference", "gather-float32", "triton-float32", "float32", "float16", "torchvision-float16"]


def no_compiler():
    raise RuntimeError("Failed to find C compiler.\nPlease specify")


LACKING = {
    "triton": ("Triton, which comes", availability.importlib.util, "find_spec", lambda name: None),
    "gpu": ("an NVIDIA GPU", torch.cuda, "is_available", lambda: False),
    "nvidia_gpu": ("an NVIDIA GPU", torch.version, "hip", "6.4"),
    "recent_gpus": ("capability 7.0 or later", torch.cuda, "get_device_capability", lambda number: (9 - 3 * number, 1)),
    "compiler": ("with (Failed to find C compiler.)", availability, "_compile_a_kernel", no_compiler),
}


@pytest.mark.parametrize("lacking", LACKING)
def test_where_triton_cannot_compile_torchvision_computes(gpu, monkeypatch, lacking):
    words, owner, name, value = LACKING[lacking]
    monkeypatch.setattr(owner, name, value)
    assert words in availability.what_kernels_need()
    assert not availability.has_triton()
    assert choose_backend("auto", "cuda", torch.float16) == "torchvision"
    finding = check_kernels()
    assert finding.state is State.NOTE and words in finding.found
    said = []
    assert "triton-float32" not in [candidate.name for candidate in candidates("cuda", said.append)]
    assert words in said[0]


def test_a_recorded_graph_takes_the_answer_as_it_is(monkeypatch):
    """Trying kernels would break the graph at every deformable convolution."""
    find_spec = availability.importlib.util.find_spec

    def find_and_break(name):
        torch._dynamo.graph_break()
        return find_spec(name)

    monkeypatch.setattr(availability.importlib.util, "find_spec", find_and_break)

    def chosen(x):
        return x + availability.runs_kernels(torch.device("cuda"), torch.float16)

    answer = torch.compile(chosen, backend="eager", fullgraph=True)(torch.zeros(1))
    assert answer == availability.has_triton()


def test_behind_torch_compile_a_gpu_samples_by_our_kernels(monkeypatch):
    """torchvision's run beside torch's stream: CUDA graphs, as of ``mode="reduce-overhead"``, lack their samples."""
    monkeypatch.setattr(availability, "what_kernels_need", lambda: None)

    def chosen(x):
        return x + (choose_backend("auto", "cuda", torch.float16) == "triton")

    assert torch.compile(chosen, backend="eager", fullgraph=True)(torch.zeros(1)) == 1
    assert chosen(torch.zeros(1)) == 1
