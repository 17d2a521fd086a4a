import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_fganet.compiled import sample_fixed_point
from nnunet_fganet.compiled.fixed_point_weight import fixed_point_weight
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.network import deform_gather
from nnunet_fganet.network.conv import Conv2d
from nnunet_fganet.network.deform_conv import DeformConv2d, deform_conv2d
from nnunet_fganet.network.fganet import FGANet

needs_units = pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for 8-bit integers (AMX)")
KINDS = ["random", "far", "integer", "zero", "on_the_border"]


def inputs(seed=0, batch=2, channels=3, out_channels=4, height=5, width=6, kernel_size=3, offsets="random"):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    taps = kernel_size * kernel_size
    offset = {
        "random": lambda: 2 * normal(batch, 2 * taps, height, width),
        "far": lambda: 1e6 * normal(batch, 2 * taps, height, width),
        "integer": lambda: normal(batch, 2 * taps, height, width).round(),
        "zero": lambda: torch.zeros(batch, 2 * taps, height, width),
        "on_the_border": lambda: torch.full((batch, 2 * taps, height, width), -1.0),
    }[offsets]()
    return {
        "x": normal(batch, channels, height, width),
        "offset": offset,
        "weight": normal(out_channels, channels, kernel_size, kernel_size),
        "bias": normal(out_channels),
        "mask": torch.rand(batch, taps, height, width, generator=generator),
    }


@pytest.mark.parametrize("offsets", KINDS)
@pytest.mark.parametrize("modulated", [False, True])
def test_gather_agrees_with_torchvision(offsets, modulated):
    tensors = inputs(offsets=offsets)
    if not modulated:
        tensors["mask"] = None
    gathered = deform_conv2d(**tensors, backend="gather")
    torch.testing.assert_close(gathered, deform_conv2d(**tensors, backend="torchvision"), rtol=1e-4, atol=1e-4)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    channels=st.integers(1, 5),
    height=st.integers(1, 8),
    width=st.integers(1, 8),
    kernel_size=st.sampled_from([1, 3, 5]),
)
def test_any_shape(seed, batch, channels, height, width, kernel_size):
    tensors = inputs(seed, batch, channels, 2, height, width, kernel_size)
    gathered = deform_conv2d(**tensors, backend="gather")
    torch.testing.assert_close(gathered, deform_conv2d(**tensors, backend="torchvision"), rtol=1e-4, atol=1e-4)


def test_zero_offsets_are_a_plain_convolution():
    tensors = inputs(offsets="zero")
    plain = torch.nn.functional.conv2d(tensors["x"], tensors["weight"], tensors["bias"], padding=1)
    deformed = deform_conv2d(tensors["x"], tensors["offset"], tensors["weight"], tensors["bias"], backend="gather")
    torch.testing.assert_close(deformed, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("offsets", KINDS)
def test_gradients_agree_with_torchvision(offsets):
    gradients = {}
    for backend in ("gather", "torchvision"):
        tensors = {name: tensor.requires_grad_() for name, tensor in inputs(offsets=offsets).items()}
        deform_conv2d(**tensors, backend=backend).square().sum().backward()
        gradients[backend] = {name: tensor.grad for name, tensor in tensors.items()}
    for name, gradient in gradients["gather"].items():
        torch.testing.assert_close(gradient, gradients["torchvision"][name], rtol=1e-3, atol=1e-3, msg=name)


def test_gradients_agree_with_finite_differences():
    # Positions are computed in float32 whatever the input, so the step must be coarse; away from
    # integer positions, where bilinear sampling has kinks.
    tensors = inputs(batch=1, channels=2, out_channels=2, height=4, width=4)
    offset = 0.5 + 0.2 * torch.sin(tensors["offset"])

    def output(offset: torch.Tensor) -> torch.Tensor:
        return deform_conv2d(tensors["x"], offset, tensors["weight"], tensors["bias"], tensors["mask"], "gather").sum()

    gradient = torch.autograd.functional.jacobian(output, offset)
    step = 1e-2
    for index in [(0, 0, 1, 1), (0, 7, 2, 3), (0, 17, 0, 0)]:
        change = torch.zeros_like(offset)
        change[index] = step
        numeric = (output(offset + change) - output(offset - change)) / (2 * step)
        torch.testing.assert_close(gradient[index], numeric, rtol=2e-2, atol=2e-2)


def test_infinite_offsets_read_zeros_and_nan_gives_nan():
    tensors = inputs()
    tensors["offset"][0] = float("inf")
    tensors["offset"][1, 0, 0, 0] = float("nan")
    out = deform_conv2d(**tensors, backend="gather")
    torch.testing.assert_close(out[0], tensors["bias"].view(-1, 1, 1).expand_as(out[0]))
    assert out[1, :, 0, 0].isnan().all()
    assert out[1, :, 1:].isfinite().all()


@pytest.mark.parametrize("backend", ["gather", "torchvision"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(backend, dtype):
    tensors = inputs(height=16, width=16)
    exact = deform_conv2d(**tensors, backend="torchvision")
    half = deform_conv2d(**{name: tensor.to(dtype) for name, tensor in tensors.items()}, backend=backend)
    assert half.dtype == dtype
    # The reference sees the same rounded values, so that only the arithmetic differs.
    rounded = deform_conv2d(
        **{name: tensor.to(dtype).float() for name, tensor in tensors.items()}, backend="torchvision"
    )
    assert (half.float() - rounded).norm() / rounded.norm() < 1e-2
    assert (half.float() - exact).norm() / exact.norm() < 5e-2


@pytest.mark.parametrize("backend", ["gather", "torchvision"])
def test_autocast(backend):
    tensors = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        assert deform_conv2d(**tensors, backend=backend).dtype == torch.bfloat16


def module_and_gradients(tensors, modulated, autocast, training=True):
    """Output of a module under autocast to bfloat16 or not, and gradients of a weighted sum of it."""
    channels, out_channels = tensors["x"].shape[1], len(tensors["bias"])
    module = DeformConv2d(channels, out_channels).train(training)
    module.by_integers = True
    module.weight.data, module.bias.data = tensors["weight"].clone(), tensors["bias"].clone()
    names = ["x", "offset", *(["mask"] if modulated else [])]
    given = [tensors[name].clone().requires_grad_() for name in names]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = module(*given)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out.float() * weights).sum().backward()
    return out, [each.grad for each in (*given, module.weight, module.bias)]


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5, 6), (2, 16, 20, 33, 70)], ids=["small", "several_blocks"])
@pytest.mark.parametrize("by_integers", [False, pytest.param(True, marks=needs_units)])
def test_trainings_in_bfloat16_are_exact_forward(modulated, shape, by_integers, monkeypatch):
    monkeypatch.setattr(deform_gather, "has_matrix_units", lambda: by_integers)
    tensors = inputs(0, *shape)
    expected, exact = module_and_gradients(tensors, modulated, autocast=False)
    found, gradients = module_and_gradients(tensors, modulated, autocast=True)
    assert found.dtype == torch.float32
    if by_integers:  # a tenth of bfloat16's error
        assert 0 < (found - expected).norm() < 4e-4 * expected.norm()
    else:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for gradient, right in zip(gradients, exact, strict=True):
        assert gradient.dtype == torch.float32 and gradient.shape == right.shape
        assert 0 < (gradient - right).norm() < 1e-2 * right.norm() or torch.equal(
            gradient, right
        )  # the bias's are equal


@needs_units
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("most", [32, 96])
def test_products_of_integers_part_by_part(kernel_size, most, monkeypatch):
    """The last part has 20 pixels of 180, or 84."""
    monkeypatch.setattr(sample_fixed_point, "_MOST_PIXELS", most)
    tensors = inputs(0, 2, 19, 20, 9, 10, kernel_size)
    given = [tensors[name] for name in ("x", "offset", "weight", "bias", "mask")]
    expected = deform_conv2d(**tensors, backend="torchvision")
    found = deform_gather.deform_conv2d_float32_forward(*given)
    assert 0 < (found - expected).norm() < 4e-4 * expected.norm()
    monkeypatch.setattr(deform_gather, "MOST_PRODUCTS", 1)  # as if 32 bits did not hold the sums
    torch.testing.assert_close(deform_gather.deform_conv2d_float32_forward(*given), expected, rtol=1e-4, atol=1e-4)


@needs_units
@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_products_of_integers_of_unusual_images(value):
    tensors = inputs(0, 1, 3, 4, 30, 30, offsets="zero")
    tensors["x"][0, 1, 3, 4] = value
    given = [tensors[name] for name in ("x", "offset", "weight", "bias")]
    found = deform_gather.deform_conv2d_float32_forward(*given, None)
    if value == value:
        expected = deform_conv2d(*given, backend="torchvision")
        assert (found - expected).abs().max() < 4e-4 * expected.abs().max()
    else:
        assert found.isnan().all()


@needs_units
def test_products_of_integers_at_offsets_that_are_no_numbers():
    tensors = inputs(0, 2, 3, 4, 9, 11)
    given = [tensors[name] for name in ("x", "offset", "weight", "bias", "mask")]
    for value in (1e30, float("inf"), float("nan")):
        tensors["offset"][1, 5, 3, 4] = value
        found, expected = deform_gather.deform_conv2d_float32_forward(*given), deform_conv2d(*given)
        assert torch.equal(found.isnan(), expected.isnan()) and found.isnan().any() == (value != value)
        is_number = expected == expected
        assert (found - expected)[is_number].norm() < 4e-4 * expected[is_number].norm()


@needs_units
def test_products_of_integers_scale_each_image_for_itself():
    tensors = inputs(0, 2, 3, 4, 9, 11)
    names = "x", "offset", "weight", "bias", "mask"
    expected = deform_gather.deform_conv2d_float32_forward(*(tensors[name] for name in names))
    tensors["x"][0, 1, 3, 4] = 1e6
    found = deform_gather.deform_conv2d_float32_forward(*(tensors[name] for name in names))
    assert torch.equal(found[1], expected[1]) and not torch.equal(found[0], expected[0])
    tensors["x"][0, 1, 3, 4] = float("nan")
    found = deform_gather.deform_conv2d_float32_forward(*(tensors[name] for name in names))
    assert torch.equal(found[1], expected[1]) and found[0].isnan().all()


@needs_units
@pytest.mark.parametrize("factor", [0.0, -1.0, 3.0])
def test_products_of_integers_with_any_factors(factor):
    tensors = inputs(0, 2, 3, 4, 9, 11)
    given = [tensors[name] for name in ("x", "offset", "weight", "bias", "mask")]
    given[4] = torch.full_like(given[4], factor)
    found, expected = deform_gather.deform_conv2d_float32_forward(*given), deform_conv2d(*given)
    assert (found - expected).norm() < 4e-4 * expected.norm()
    given[0] = torch.zeros_like(given[0])
    torch.testing.assert_close(deform_gather.deform_conv2d_float32_forward(*given), deform_conv2d(*given))


@needs_units
def test_products_of_integers_do_not_depend_on_threads():
    tensors = inputs(0, 2, 19, 20, 13, 15)
    given = [tensors[name] for name in ("x", "offset", "weight", "bias", "mask")]
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(deform_gather.deform_conv2d_float32_forward(*given))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize("channels", [3, 64])
def test_gradients_of_one_image_may_have_any_layout(channels):
    """Of one image, rows can be a view of what has its channels apart."""
    torch.manual_seed(0)
    module, x = DeformConv2d(channels, channels).train(), torch.randn(1, channels, 5, 6, requires_grad=True)
    offset, weights = torch.randn(1, 18, 5, 6), torch.randn(1, channels, 5, 6)

    def gradients(in_bfloat16):
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
            out = module(x, offset)
        return torch.autograd.grad((out.float() * weights).sum(), (x, module.weight))

    for found, expected in zip(gradients(True), gradients(False), strict=True):
        assert (found - expected).norm() < 1e-2 * expected.norm()


@needs_units
def test_products_of_integers_refuse_what_they_cannot_read():
    rows, offset, weight = torch.randn(20, 8), torch.zeros(20, 9, 2), torch.randn(4, 72, 1, 1)
    given, bias = (rows, offset, None, (4, 5)), torch.zeros(4)
    tiles, scale = fixed_point_weight(weight)
    assert sample_fixed_point.multiply_sample_integers(*given, tiles, scale, bias).shape == (20, 4)
    with pytest.raises(ValueError, match="weight must be"):
        sample_fixed_point.multiply_sample_integers(*given, tiles[:, :, :1], scale, bias)
    with pytest.raises(ValueError, match="scale must be"):
        sample_fixed_point.multiply_sample_integers(*given, tiles, scale[:3], bias)
    with pytest.raises(ValueError, match="rows must be one of"):
        sample_fixed_point.multiply_sample_integers(rows.half(), *given[1:], tiles, scale, bias)
    many, far = torch.randn(1, 8000), torch.zeros(1, 9, 2)
    tiles, scale = fixed_point_weight(torch.randn(4, 72000, 1, 1))
    with pytest.raises(ValueError, match="32 bits do not hold the sums of 72000 products"):
        sample_fixed_point.multiply_sample_integers(many, far, None, (1, 1), tiles, scale, bias)


def test_other_passes_in_bfloat16_are_not():
    tensors = inputs()
    assert module_and_gradients(tensors, False, autocast=True, training=False)[0].dtype == torch.bfloat16


def test_trainings_that_do_not_want_all_gradients():
    tensors = inputs()
    module = DeformConv2d(3, 4).train()
    module.weight.requires_grad_(False)
    offset = tensors["offset"].clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        module(tensors["x"], offset).sum().backward()
    assert offset.grad.isfinite().all() and module.weight.grad is None and module.bias.grad is not None


def test_second_gradients_of_trainings_in_bfloat16_are_refused():
    tensors = inputs()
    x = tensors["x"].clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = DeformConv2d(3, 4).train()(x, tensors["offset"])
    (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_module_has_torchvisions_parameters():
    from torchvision.ops import DeformConv2d as Reference

    ours, theirs = DeformConv2d(3, 4), Reference(3, 4, 3, padding=1)
    ours.load_state_dict(theirs.state_dict())
    tensors = inputs()
    expected = theirs(tensors["x"], tensors["offset"])
    torch.testing.assert_close(ours(tensors["x"], tensors["offset"]), expected, rtol=1e-4, atol=1e-4)


def test_unknown_backend_is_named():
    with pytest.raises(ValueError, match="cudnn"):
        deform_conv2d(**inputs(), backend="cudnn")


@pytest.mark.parametrize("backend", ["gather", "torchvision"])
def test_offsets_and_masks_that_do_not_fit_are_named(backend):
    x, offset, weight = torch.zeros(2, 8, 9, 9), torch.zeros(2, 18, 9, 9), torch.zeros(8, 8, 3, 3)
    for wrong in (offset[:1], offset[:, :16], offset[..., :8]):
        with pytest.raises(ValueError, match="offset has the shape"):
            deform_conv2d(x, wrong, weight, backend=backend)
    with pytest.raises(ValueError, match="mask has the shape"):
        deform_conv2d(x, offset, weight, mask=torch.zeros(2, 1, 9, 9), backend=backend)


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64])
def test_gradients_do_not_depend_on_torchs_default_dtype(default):
    x, offset, weight = torch.randn(1, 8, 9, 9), torch.randn(1, 18, 9, 9), torch.randn(8, 8, 3, 3)
    gradients = []
    for dtype in (torch.float32, default):
        torch.set_default_dtype(dtype)
        try:
            leaf = x.clone().requires_grad_()
            deform_conv2d(leaf, offset, weight, backend="gather").square().sum().backward()
        finally:
            torch.set_default_dtype(torch.float32)
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


@needs_units
def test_trainings_in_bfloat16_are_exact_forward_where_nothing_else_is_said():
    tensors = inputs(0, 2, 16, 20, 33, 70)
    names = ("x", "offset", "weight", "bias")
    expected = deform_conv2d(*(tensors[name] for name in names), backend="torchvision")
    module = DeformConv2d(16, 20).train()
    module.weight.data, module.bias.data = tensors["weight"].clone(), tensors["bias"].clone()
    with torch.autocast("cpu", torch.bfloat16):
        found = module(tensors["x"], tensors["offset"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_integers_round_in_the_decoder_alone():
    network = FGANet(1, 1, features_per_stage=(8, 16, 16, 32))
    for kind in (DeformConv2d, Conv2d):
        rounds = {name: each.by_integers for name, each in network.named_modules() if isinstance(each, kind)}
        assert len(rounds) >= 3
        assert all(by_integers == name.startswith("decoder") for name, by_integers in rounds.items())
