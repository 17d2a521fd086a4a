import pytest
import torch
from torch import nn

pytest.importorskip("triton", reason="comes with torch's builds for GPUs only")

import kernel_checks

from nnunet_fganet.gpu.availability import has_triton
from nnunet_fganet.inference import graph, prepared
from nnunet_fganet.inference.automatic import AutomaticInference
from nnunet_fganet.inference.gpu import GpuConv2d, GpuSDA
from nnunet_fganet.inference.prepared import optimize_for_inference

on_a_gpu = pytest.mark.skipif(not has_triton(), reason="needs a GPU that Triton compiles for")


def relative(found, expected):
    return ((found.float() - expected).norm() / expected.norm()).item()


@on_a_gpu
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-2), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)])
@torch.no_grad()
def test_logits_agree_for_images_of_all_sizes(dtype, tolerance):
    network = kernel_checks.network().cuda()
    ready = optimize_for_inference(network, dtype)
    assert any(isinstance(module, GpuSDA) for module in ready.modules())
    for shape in [(1, 2, 64, 96), (1, 2, 50, 70), (3, 2, 64, 64), (1, 2, 64, 96)]:
        x = torch.randn(shape, device="cuda")
        assert relative(ready(x), network(x)) < tolerance
        assert relative(ready(2 * x), network(2 * x)) < tolerance  # replayed, not recorded


@on_a_gpu
@torch.no_grad()
def test_no_more_sizes_are_kept_than_said(monkeypatch):
    monkeypatch.setattr(graph, "_MOST_SIZES", 2)
    network = kernel_checks.network().cuda()
    ready = optimize_for_inference(network, torch.float32)
    for size in (64, 96, 64, 128, 64, 96):
        x = torch.randn(1, 2, size, size, device="cuda")
        assert relative(ready(x), network(x)) < 1e-2
    assert [shape[2] for shape in ready.graphs._recordings] == [64, 96]


@on_a_gpu
@torch.no_grad()
def test_callers_may_write_into_the_logits():
    ready = optimize_for_inference(kernel_checks.network().cuda(), torch.float16)
    x = torch.randn(1, 2, 64, 64, device="cuda")
    first = ready(x)
    kept = first.clone()
    first += 1
    assert torch.equal(ready(x), kept)


@on_a_gpu
@pytest.mark.parametrize("channels", [1, 2])
@torch.no_grad()
def test_torchvisions_convolution_is_not_recorded(channels):
    network = kernel_checks.network(input_channels=channels, deform_backend="torchvision").cuda()
    ready = optimize_for_inference(network, torch.float32)
    assert ready.graphs is None
    x = torch.randn(1, channels, 64, 64, device="cuda")
    assert relative(ready(x), network(x)) < 1e-2


@on_a_gpu
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_nnunets_autocast_decides_the_precision(mode, capsys):
    network = kernel_checks.network()
    with mode():
        network.cuda()  # as nnU-Net's predictor moves it
    x = torch.randn(1, 2, 64, 64, device="cuda")
    with mode(), torch.autocast("cuda"):
        expected = network(x).float()
    network.inference = AutomaticInference()
    for _ in range(2):
        with mode(), torch.autocast("cuda"):
            found = network(x)
    assert relative(found, expected) < 1e-2
    with torch.no_grad():  # another mode, and float32
        assert relative(network(x), expected) < 1e-2
    assert capsys.readouterr().out.count("prepared for inference in float16") == 1


@on_a_gpu
@torch.no_grad()
def test_folds_take_turns_without_being_recorded_again(monkeypatch):
    prepared_networks = []
    monkeypatch.setattr(
        "nnunet_fganet.inference.automatic.optimize_for_inference",
        lambda *arguments: prepared_networks.append(optimize_for_inference(*arguments)) or prepared_networks[-1],
    )
    network = kernel_checks.network().cuda()
    network.inference = AutomaticInference()
    x = torch.randn(1, 2, 64, 64, device="cuda")
    folds = [{name: value.cpu().clone() for name, value in network.state_dict().items()} for _ in range(5)]
    for number, fold in enumerate(folds):
        fold["decoder.seg_layers.0.bias"] += number
    for _ in range(2):
        logits = []
        for fold in folds:
            network.load_state_dict(fold)
            logits.append(network(x))
        for number, found in enumerate(logits):
            torch.testing.assert_close(found, logits[0] + number, rtol=1e-3, atol=1e-3)
    assert len(prepared_networks) == 5


def test_nothing_is_compiled_on_a_gpu(monkeypatch):
    network = kernel_checks.network()
    monkeypatch.setattr(prepared, "_device_type", lambda _: "cuda")
    with pytest.raises(ValueError, match="nothing is compiled on GPUs"):
        optimize_for_inference(network, torch.float32, compiled=True)


@torch.no_grad()
def test_convolution_pads_its_channels_only_where_asked():
    conv = nn.Conv2d(4, 18, 3, padding=1, bias=False)
    ready = GpuConv2d(conv, "none", torch.float32)
    x = torch.randn(1, 4, 6, 7)
    torch.testing.assert_close(ready(x), conv(x))
