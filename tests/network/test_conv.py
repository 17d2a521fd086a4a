"""Convolutions that train on the CPU, against torch's own in double precision."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from nnunet_fganet.benchmark.training import cosine_similarities, layer_gradients
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.network import conv as convolutions
from nnunet_fganet.network.conv import Conv2d
from nnunet_fganet.network.fganet import FGANet

needs_units = pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for 8-bit integers (AMX)")
# A convolution's arguments, and its image: batch, rows, columns.
LARGE = (dict(in_channels=18, out_channels=21, kernel_size=3, padding=1), (2, 34, 30))
KINDS = {
    "large": LARGE,
    "small image": (LARGE[0], (1, 5, 3)),
    "without bias": ({**LARGE[0], "bias": False}, LARGE[1]),
    "few channels in": ({**LARGE[0], "in_channels": 1}, LARGE[1]),
    "few channels out": ({**LARGE[0], "out_channels": 1}, LARGE[1]),
    "stride 2": ({**LARGE[0], "stride": 2}, LARGE[1]),
    "depthwise": ({**LARGE[0], "out_channels": 18, "groups": 18}, LARGE[1]),
    "1 x 1": (dict(in_channels=18, out_channels=21, kernel_size=1), LARGE[1]),
}
UNUSUAL = {
    "without padding": ({**LARGE[0], "padding": 0}, LARGE[1]),
    "more padding": ({**LARGE[0], "padding": 2}, LARGE[1]),
}
WITHOUT_MATRIX_UNITS = {"avx512_bf16": True, "amx_bf16": False}
WITH_MATRIX_UNITS = {"avx512_bf16": True, "amx_bf16": True}


@pytest.fixture
def units(monkeypatch):
    """A function that makes the CPU one with these capabilities."""
    return lambda capabilities: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)


@pytest.fixture
def calls(monkeypatch):
    """Names of the functions of Winograd's convolution that were called, in order."""
    names = []
    for name in ("convolve_by_winograd", "winograd_weight_gradient"):
        function = getattr(convolutions, name)
        monkeypatch.setattr(
            convolutions, name, lambda *given, name=name, function=function: names.append(name) or function(*given)
        )
    return names


def make(arguments, image, seed=0, layout=torch.channels_last):
    torch.manual_seed(seed)
    conv = Conv2d(**arguments).train()
    return conv, torch.randn(image[0], arguments["in_channels"], *image[1:]).contiguous(memory_format=layout)


def computed(conv, x, exact=False):
    """Output, and gradients of image, weight and bias, of a loss in which no two outputs count alike."""
    conv, x = copy.deepcopy(conv), x.detach().clone().requires_grad_()
    out = nn.Conv2d.forward(conv.double(), x.double()) if exact else conv(x)
    torch.manual_seed(1)
    (out.double() * torch.randn(out.shape).double()).sum().backward()
    return [out.detach(), x.grad, *(parameter.grad for parameter in conv.parameters())]


def assert_near(found, expected, error):
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() <= error * theirs.abs().max()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("kind", KINDS)
def test_float32_agrees_with_double_precision(kind, layout):
    conv, x = make(*KINDS[kind], layout=layout)
    found = computed(conv, x)
    assert {each.dtype for each in found} == {torch.float32}
    assert_near(found, computed(conv, x, exact=True), 2e-5)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    channels=st.integers(16, 40),
    out_channels=st.integers(16, 40),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
)
def test_any_shape_agrees_with_double_precision(seed, batch, channels, out_channels, height, width):
    conv, x = make(
        dict(in_channels=channels, out_channels=out_channels, kernel_size=3, padding=1), (batch, height, width)
    )
    assert_near(computed(conv, x), computed(conv, x, exact=True), 5e-5)


ALL = ["convolve_by_winograd", "convolve_by_winograd", "winograd_weight_gradient"]  # the output and both gradients


def test_only_large_images_go_through_winograds(calls):
    for kind in (KINDS | UNUSUAL).keys() - {"large", "without bias"}:
        computed(*make(*(KINDS | UNUSUAL)[kind]))
        assert not calls, kind
    computed(*make(*KINDS["large"]))
    assert calls == ALL


@pytest.mark.parametrize("capabilities, expected", [(WITHOUT_MATRIX_UNITS, ALL), (WITH_MATRIX_UNITS, ALL[:1])])
def test_gradients_go_through_winograds_where_that_is_faster_than_bfloat16(
    capabilities, expected, units, calls, monkeypatch
):
    units(capabilities)
    conv, x = make(*KINDS["large"])
    with torch.autocast("cpu", torch.bfloat16):
        computed(conv, x)
        assert calls == ALL[:1]
        calls.clear()
        monkeypatch.setattr(convolutions, "_FEWEST_AGAINST_DOT_PRODUCTS", 1)
        assert_near(computed(conv, x), computed(conv, x, exact=True), 2e-5 if expected == ALL else 1e-2)
    assert calls == expected


def test_evaluation_and_other_dtypes_are_torchs_own():
    conv, x = make(*KINDS["large"])
    assert torch.equal(conv.eval()(x), nn.Conv2d.forward(conv, x))
    conv.double().train()
    assert torch.equal(conv(x.double()), nn.Conv2d.forward(conv, x.double()))


@pytest.mark.parametrize("capabilities", [WITHOUT_MATRIX_UNITS, WITH_MATRIX_UNITS])
@pytest.mark.parametrize("kind", [*KINDS, *UNUSUAL])
def test_bfloat16_rounds_gradients_only(kind, capabilities, units):
    units(capabilities)
    conv, x = make(*(KINDS | UNUSUAL)[kind])
    with torch.autocast("cpu", torch.bfloat16):
        found = computed(conv, x)
    expected = computed(conv, x, exact=True)
    assert {each.dtype for each in found} == {torch.float32}
    assert_near(found[:1], expected[:1], 2e-5)
    assert_near(found[1:], expected[1:], 1e-2)


BY_INTEGERS = {
    "large": (dict(in_channels=40, out_channels=21, kernel_size=3, padding=1), (2, 34, 30)),
    "small image": (dict(in_channels=130, out_channels=16, kernel_size=3, padding=1), (3, 2, 3)),
    "without bias": (dict(in_channels=16, out_channels=70, kernel_size=3, padding=1, bias=False), (2, 9, 17)),
    "stride 2": (dict(in_channels=16, out_channels=32, kernel_size=3, padding=1, stride=2), (2, 10, 17)),
    "1 x 1": (dict(in_channels=128, out_channels=144, kernel_size=1), (2, 9, 8)),
}
NOT_BY_INTEGERS = {
    **{kind: KINDS[kind] for kind in ("few channels in", "few channels out", "depthwise", "1 x 1")},
    "other strides": ({**LARGE[0], "stride": (1, 2)}, LARGE[1]),
    "5 x 5": ({**LARGE[0], "kernel_size": 5, "padding": 2}, LARGE[1]),
    "sums too large for 32 bits": (dict(in_channels=66_100, out_channels=128, kernel_size=1), (1, 1, 1)),
    **UNUSUAL,
}


@needs_units
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("kind", BY_INTEGERS)
def test_matrix_units_round_a_tenth_of_what_bfloat16_does(kind, layout, monkeypatch):
    conv, x = make(*BY_INTEGERS[kind], layout=layout)
    conv.by_integers = True
    used = []
    convolve = convolutions.fixed_point_conv2d
    monkeypatch.setattr(convolutions, "fixed_point_conv2d", lambda *given: used.append(1) or convolve(*given))
    with torch.autocast("cpu", torch.bfloat16):
        found, rounded = computed(conv, x), nn.Conv2d.forward(conv, x)
    expected = computed(conv, x, exact=True)
    assert len(used) == 1
    assert {each.dtype for each in found} == {torch.float32}
    assert 10 * (found[0] - expected[0]).norm() < (rounded - expected[0]).norm()
    assert_near(found[1:], expected[1:], 1e-2)


@pytest.mark.parametrize("kind", NOT_BY_INTEGERS)
def test_what_integers_do_not_compute_or_not_faster(kind, monkeypatch):
    monkeypatch.setattr(convolutions, "has_matrix_units", lambda: True)
    monkeypatch.setattr(convolutions, "fixed_point_conv2d", None)
    conv, x = make(*NOT_BY_INTEGERS[kind])
    conv.by_integers = True
    with torch.autocast("cpu", torch.bfloat16):
        conv(x)


def test_integers_are_used_only_where_it_is_said(monkeypatch):
    monkeypatch.setattr(convolutions, "has_matrix_units", lambda: True)
    conv, x = make(*BY_INTEGERS["large"])
    with torch.autocast("cpu", torch.bfloat16):
        assert not conv.way(x).forward_by_integers
        conv.by_integers = True
        assert conv.way(x).forward_by_integers
    assert not conv.way(x).forward_by_integers


FEW_PIXELS = {
    "same": (LARGE[0], (2, 16, 16)),
    "one": (LARGE[0], (1, 1, 1)),
    "stride 2": (KINDS["stride 2"][0], (2, 13, 8)),
    "without padding": (UNUSUAL["without padding"][0], (3, 5, 4)),
    "unlike in rows and columns": ({**LARGE[0], "padding": (2, 0), "stride": (1, 2)}, (3, 7, 9)),
}


def bfloat16_way(kind):
    """A convolution, an image of it, and how its gradients are computed in bfloat16."""
    conv, x = make(*kind)
    return conv, x, convolutions.Way(conv, False, False, False, torch.bfloat16)


@pytest.mark.parametrize("kind", FEW_PIXELS)
def test_the_weights_gradient_of_few_pixels_is_a_product(kind, units):
    units(WITH_MATRIX_UNITS)
    conv, x, way = bfloat16_way(FEW_PIXELS[kind])
    gradient = torch.randn_like(conv(x))
    assert way._has_few_pixels(gradient.bfloat16())
    with torch.no_grad():
        found = way.gradients(gradient, x, conv.weight.detach(), (False, True))
    expected = torch.autograd.grad(conv.double()(x.double()), conv.weight, gradient.double())
    assert_near(found[1:], expected, 1e-2)


@needs_units
@pytest.mark.parametrize(
    "change, is_by_units", [({}, True), ({"stride": 2}, False), ({"padding": 0}, False), ({"in_channels": 18}, False)]
)
def test_weights_gradients_of_few_pixels_by_matrix_units(change, is_by_units, units, monkeypatch):
    units(WITH_MATRIX_UNITS)
    counts, gradient_of = [], convolutions.sample_weight_gradient
    monkeypatch.setattr(convolutions, "sample_weight_gradient", lambda *given: counts.append(1) or gradient_of(*given))
    kind = {**LARGE[0], "in_channels": 64, "out_channels": 32} | change
    conv, x, way = bfloat16_way((kind, (2, 9, 14)))
    gradient = torch.randn_like(conv(x))
    with torch.no_grad():
        found = way.gradients(gradient, x, conv.weight.detach(), (False, True))
    expected = torch.autograd.grad(conv.double()(x.double()), conv.weight, gradient.double())
    assert_near(found[1:], expected, 1e-2)
    assert found[1].dtype == torch.float32 and counts == [1] * is_by_units


@pytest.mark.parametrize("kind", ["1 x 1", "depthwise", "large"])
def test_other_gradients_of_weights_are_onednns(kind, units):
    units(WITH_MATRIX_UNITS)
    conv, x, way = bfloat16_way(KINDS[kind])
    assert not way._has_few_pixels((conv(x) if kind == "large" else conv(x[..., :5, :5])).bfloat16())


def test_without_matrix_units_gradients_of_weights_are_onednns(units):
    units(WITHOUT_MATRIX_UNITS)
    conv, x, way = bfloat16_way(FEW_PIXELS["same"])
    assert not way._has_few_pixels(conv(x).bfloat16())


@pytest.mark.parametrize(
    "change", [{"padding_mode": "reflect"}, {"padding": "same"}, {"padding": 0}, {"padding": 2, "dilation": 2}]
)
def test_what_fganet_does_not_have_is_as_torchs_own(change, calls):
    conv, x = make(LARGE[0] | change, LARGE[1])
    assert torch.equal(conv(x), nn.Conv2d.forward(conv, x))
    with torch.autocast("cpu", torch.bfloat16):
        conv(x).sum().backward()
    assert not calls
    one, x = make(*LARGE)
    assert torch.equal(one(x[0]), nn.Conv2d.forward(one, x[0]))  # an image that is no batch


def test_only_gradients_that_are_wanted_are_computed(calls):
    conv, x = make(*LARGE)
    conv.weight.requires_grad_(False)
    image = x.clone().requires_grad_()
    conv(image).sum().backward()
    assert conv.weight.grad is None and calls == ALL[:2]
    calls.clear()
    conv.weight.requires_grad_(True)
    conv(x).sum().backward()
    assert calls == [ALL[0], ALL[2]]
    with torch.no_grad():
        assert not conv(x).requires_grad
    way = convolutions.Way(conv, False, False, False, torch.bfloat16)
    for each in ((True, False), (False, True)):
        gradients = way.gradients(torch.randn(2, 21, 34, 30), x, conv.weight.detach(), each)
        assert [gradient is not None for gradient in gradients] == list(each)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_may_be_written_into_and_steps_checkpointed(dtype):
    conv, x = make(*LARGE)
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        expected, error = computed(conv, x, exact=True), 2e-5 if dtype == torch.float32 else 1e-2
        for computes in (
            lambda image: conv(image).mul_(2),
            lambda image: 2 * checkpoint(conv, image, use_reentrant=False),
            lambda image: 2 * checkpoint(conv, image, use_reentrant=True),
        ):
            conv.zero_grad()
            image = x.clone().requires_grad_()
            out = computes(image)
            torch.manual_seed(1)
            (out.double() * torch.randn(out.shape).double()).sum().backward()
            found = (out.detach() / 2, image.grad / 2, conv.weight.grad / 2, conv.bias.grad / 2)
            assert_near(found[:1], expected[:1], 2e-5)
            assert_near(found[1:], expected[1:], error)


@pytest.mark.parametrize(
    "by_integers, least", [(False, 0.999), pytest.param(True, 0.99, marks=needs_units)], ids=["float32", "integers"]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_of_a_network_in_bfloat16_point_where_those_in_float32_do(seed, by_integers, least, monkeypatch):
    monkeypatch.setattr(convolutions, "has_matrix_units", lambda: by_integers)
    torch.manual_seed(seed)
    network = FGANet(1, 1, deep_supervision=True, features_per_stage=(16, 16, 32, 32), dropout=0.0, sda=False).train()
    network.apply(network.initialize)
    images, labels = torch.randn(2, 1, 64, 64), (torch.rand(2, 1, 64, 64) < 0.05).float()

    def gradients(dtype):
        network.compute_dtypes = {"cpu": dtype}
        network.zero_grad()
        return layer_gradients(network, FGANetLoss(regions=True), images, labels)

    expected = gradients(torch.float32)
    assert min(cosine_similarities(gradients(torch.bfloat16), expected).values()) > least
    monkeypatch.setattr(Conv2d, "way", lambda conv, x: None)  # without ours, all is rounded
    assert min(cosine_similarities(gradients(torch.bfloat16), expected).values()) < 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_second_gradients_are_torchs(dtype):
    conv, x = make(*LARGE)

    def of_a_penalty(convolve):
        conv.zero_grad()
        image = x.clone().requires_grad_()
        out = convolve(image)
        (gradient,) = torch.autograd.grad(out.sum(), image, create_graph=True)
        (out.mean() + gradient.square().mean()).backward()
        return conv.weight.grad

    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        found = of_a_penalty(conv)
    expected = of_a_penalty(lambda image: nn.Conv2d.forward(conv, image))
    torch.testing.assert_close(found, expected, atol=2e-2 * float(expected.abs().max()), rtol=1e-2)


def test_tensors_without_memory_are_torchs():
    with FakeTensorMode():
        conv, x = make(*LARGE)
        out = conv(x.requires_grad_())
        out.sum().backward()
    assert out.shape == (2, 21, 34, 30) and x.grad.shape == x.shape
