import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nnunet_fganet.benchmark.training import cosine_similarities, layer_gradients
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.network.bga import upsample2
from nnunet_fganet.network.fganet import PAPER_TEXT, FGANet
from nnunet_fganet.network.sda import SDA

needs_units = pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for 8-bit integers (AMX)")
WIDTHS = (8, 16, 16, 16, 16, 16)
VARIANTS = {
    "released": {},
    "paper_text": {"modulated": True, "fusion_kernel_size": 1, "features_per_stage": (8, 16, 16, 16, 16, 32)},
    "no_sda": {"sda": False},
    "no_bga": {"bga": False},
    "baseline": {"sda": False, "bga": False},
    "instance_norm": {"norm": "instance", "dropout": 0.0},
    "four_stages": {"features_per_stage": (8, 16, 32, 32)},
}


def small(deep_supervision=False, input_channels=1, num_classes=1, **arguments):
    torch.manual_seed(0)
    arguments = {"features_per_stage": WIDTHS, **arguments}
    network = FGANet(input_channels, num_classes, deep_supervision, **arguments)
    network.apply(network.initialize)
    return network


def moved(network):
    """The same network with offsets that are not zero, so that sampling is really deformed."""
    for module in network.modules():
        if isinstance(module, SDA):
            torch.nn.init.normal_(module.offset_conv.weight, std=0.1)
    return network


@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_and_backward(variant):
    network = moved(small(deep_supervision=True, input_channels=2, num_classes=3, **VARIANTS[variant]))
    outputs = network(torch.randn(2, 2, 64, 96))
    assert len(outputs) == len(network.encoder.stages)
    assert {tuple(output.shape) for output in outputs} == {(2, 3, 64, 96)}
    sum(output.square().mean() for output in outputs).backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []


def test_released_parameters():
    assert sum(p.numel() for p in FGANet(3, 1).parameters()) == 45_149_860


def test_paper_text_has_the_papers_widths():
    network = FGANet(1, 1, **PAPER_TEXT)
    assert [stage.block[4].out_channels for stage in network.decoder.stages] == [512, 256, 128, 64, 32]
    assert network.encoder.stages[-1][-1][4].out_channels == 1024
    assert network.decoder.stages[0].sda.modulated
    assert network.decoder.stages[0].bga.fusion[0].kernel_size == (1, 1)


@settings(max_examples=15)
@given(height=st.integers(1, 100), width=st.integers(1, 100))
def test_any_size(height, width):
    assert small().eval()(torch.randn(1, 1, height, width)).shape == (1, 1, height, width)


def test_padding_is_zeros_at_the_bottom_and_right():
    network = moved(small()).eval()
    x = torch.randn(1, 1, 70, 90)
    padded = torch.nn.functional.pad(x, (0, 96 - 90, 0, 96 - 70))
    torch.testing.assert_close(network(x), network(padded)[..., :70, :90])


def test_state_dict_does_not_depend_on_deep_supervision():
    with_heads, without = small(deep_supervision=True), small(deep_supervision=False)
    without.load_state_dict(with_heads.state_dict())
    x = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(without.eval()(x), with_heads.eval()(x)[0])


def test_pretrained_weights_leave_the_heads_out():
    heads = [name for name in small().state_dict() if "seg_layers" in name]
    assert len(heads) == 12
    assert all(".seg_layers." in name for name in heads)


def test_initialization_starts_with_plain_convolutions():
    for module in small().modules():
        if isinstance(module, SDA):
            assert module.offset_conv.weight.abs().max() == 0
    offsets = [m.offset_conv.weight for m in small(zero_offsets=False).modules() if isinstance(m, SDA)]
    assert all(weight.abs().max() > 0 for weight in offsets)


@pytest.mark.parametrize(
    "arguments", [{"features_per_stage": (8, 16)}, {"features_per_stage": (8, 12, 16)}, {"norm": "group"}]
)
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=r"\d|group"):
        small(**arguments)


def test_bfloat16_by_compute_dtypes_gives_fresh_float32_logits():
    network = small().eval()
    x = torch.randn(1, 1, 64, 64)
    exact = network(x)
    network.compute_dtypes = {"cpu": torch.bfloat16}
    half = network(x)
    assert half.dtype == torch.float32
    assert (half - exact).norm() / exact.norm() < 0.1
    assert not torch.equal(half, exact)
    half += 1  # nnU-Net adds to the output in place, under inference mode


def test_autocast():
    network = small(deep_supervision=True)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(torch.randn(2, 1, 64, 64))
        assert {output.dtype for output in outputs} == {torch.float32}  # training computes the forward pass in it
        assert {output.dtype for output in network.eval()(torch.randn(2, 1, 64, 64))} == {torch.bfloat16}
    sum(output.float().mean() for output in outputs).backward()


def test_channels_last():
    network = moved(small()).eval()
    x = torch.randn(2, 1, 64, 64)
    expected = network(x)
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-4)


def test_saved_and_loaded(tmp_path):
    network = moved(small()).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    other = small().eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pth"))
    x = torch.randn(1, 1, 64, 64)
    assert torch.equal(other(x), network(x))


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_weights_are_restored_after_an_update_that_torch_does_not_count(optimizer):
    network = small(norm="instance")
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(weights)
    network(torch.randn(1, 1, 64, 64)).sum().backward()
    optimizer(network.parameters(), lr=0.1, fused=True).step()
    network.load_state_dict(weights)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("batch", [1, 2])
def test_gradients_do_not_depend_on_the_backend(batch):
    """Only to a few per cent: where rounding moves a sample over a pixel's border, gradients of offsets jump."""
    x = torch.randn(batch, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    gradients = []
    for backend in ("gather", "torchvision"):
        network = moved(small(deep_supervision=True, deform_backend=backend, norm="instance", dropout=0.0))
        sum(output.square().mean() for output in network(x)).backward()
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    for name, gradient in gradients[0].items():
        difference = (gradient - gradients[1][name]).norm() / gradients[1][name].norm().clamp_min(1e-3)
        assert difference < 5e-2, f"{name}: {difference}"


@pytest.mark.slow
def test_export():
    network = moved(small()).eval()
    x = torch.randn(1, 1, 70, 64)
    exported = torch.export.export(network, (x,))
    torch.testing.assert_close(exported.module()(x), network(x), rtol=1e-4, atol=1e-4)


def test_a_fresh_process_exports_to_onnx():
    """The exporter knows torchvision's operators only if torchvision was imported before."""
    pytest.importorskip("onnxscript", reason="comes with the extra benchmark")
    program = """
import torch
from nnunet_fganet.network.fganet import FGANet
network = FGANet(1, 1, features_per_stage=(8, 8, 8)).eval()
exported = torch.onnx.export(network, (torch.zeros(1, 1, 16, 16),), dynamo=True, opset_version=19, verbose=False)
print(sum(node.op_type == "DeformConv" for node in exported.model.graph))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    network = FGANet(1, 1, features_per_stage=(8, 8, 8))
    assert int(done.stdout.splitlines()[-1]) == sum(isinstance(each, SDA) for each in network.modules())


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_gradient_of_an_upsampled_image_arrives_in_order(layout):
    """Behind a concatenation it is a part of another one, for which torch takes twenty times as long."""
    image = torch.randn(2, 8, 6, 5).contiguous(memory_format=layout).requires_grad_()
    upsampled, in_order = upsample2(image), []
    upsampled.register_hook(lambda gradient: in_order.append(gradient.is_contiguous(memory_format=layout)))
    torch.cat((torch.zeros_like(upsampled), upsampled), dim=1).square().sum().backward()
    assert in_order == [True]
    plain = functional.interpolate(image, scale_factor=2, mode="bilinear", align_corners=True)
    torch.testing.assert_close(image.grad, torch.autograd.grad(plain.square().sum(), image)[0])


def test_upsampling_has_second_gradients_and_leaves_images_without_gradients_alone():
    image = torch.randn(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: upsample2(x).pow(2), image)
    assert upsample2(image.detach())._backward_hooks is None


@needs_units
def test_gradients_in_bfloat16_point_where_those_in_float32_do():
    """With SDA, whose deformable convolutions are products of integers."""
    network = moved(small(features_per_stage=(16, 16, 32, 32), deep_supervision=True, dropout=0.0)).train()
    images, labels = torch.randn(2, 1, 64, 64), (torch.rand(2, 1, 64, 64) < 0.05).float()
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        network.compute_dtypes = {"cpu": dtype}
        network.zero_grad()
        gradients.append(layer_gradients(network, FGANetLoss(regions=True), images, labels))
    assert 0.99 < min(cosine_similarities(*gradients).values()) < 0.999999


@pytest.mark.parametrize("backend, operator", [("torchvision", "deform_conv2d"), ("auto", "sampled_columns")])
def test_torch_compile_sees_one_graph(monkeypatch, backend, operator):
    """nnU-Net trains behind it on GPUs; each break costs minutes of compilation."""

    def break_the_graph(answer):
        torch._dynamo.graph_break()
        return answer

    # In torch 2.11 the first breaks the graph, and the second is true wherever something is compiled.
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda device: break_the_graph(True))
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: break_the_graph(False))
    operators = set()

    def note_operators(graph, _):
        operators.update(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    network = moved(small(features_per_stage=(8, 16, 16), deep_supervision=True, deform_backend=backend))
    compiled = torch.compile(network, backend=note_operators, fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = compiled(torch.randn(2, 1, 32, 32))
    assert any(operator in str(target) for target in operators)
    sum(output.float().mean() for output in outputs).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


COMPILE = """
import copy, torch
from test_fganet import moved, small

network = moved(small(features_per_stage=(8, 16, 16), deep_supervision=True, dropout=0.0))
compiled = torch.compile(copy.deepcopy(network))
x = torch.randn(1, 1, 64, 64)
outputs = compiled(x)
for expected, actual in zip(network(x), outputs, strict=True):
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)
sum(output.mean() for output in outputs).backward()
"""


@pytest.mark.slow
def test_compile():
    """In a process of its own: torch's compile workers stay alive and disturb later forks."""
    done = subprocess.run([sys.executable, "-c", COMPILE], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
