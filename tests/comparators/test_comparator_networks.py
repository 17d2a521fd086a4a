"""Every comparator through the same tests, built from plans by nnU-Net's own function."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comparator_plans import PLANS, SIZE, build
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_fganet.comparators.adapter import AdaptedNetwork
from nnunet_fganet.comparators.registry import COMPARATORS, scaled, xception65_blocks

ADAPTED = ("unet", "unetplusplus", "attention_unet", "cenet", "deeplabv3plus")
OUTPUTS = {"unetplusplus": 4, "nnunet": 4, "nnunet_resenc": 4, "fganet": 3}


def frames(size=SIZE, channels=1, batch=2):
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", COMPARATORS)
def test_forward_and_backward(name):
    network = build(name, deep_supervision=name in OUTPUTS, input_channels=2, num_classes=3)
    outputs = network(frames(channels=2))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    assert len(outputs) == OUTPUTS.get(name, 1)
    assert outputs[0].shape == (2, 3, SIZE, SIZE)
    sum(output.square().mean() for output in outputs).backward()
    without = [parameter_name for parameter_name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize("name", COMPARATORS)
def test_plans_say_how_many_outputs_there_are(name):
    """nnU-Net makes a target for each of the strides but the last."""
    strides = COMPARATORS[name].architecture(PLANS, 0.25)["arch_kwargs"].get("strides", [])
    assert max(len(strides) - 1, 0) == OUTPUTS.get(name, 0)


@pytest.mark.parametrize("name", COMPARATORS)
def test_outputs_are_logits(name):
    network = build(name).eval()
    with torch.no_grad():
        outputs = network(20 * frames())
    assert outputs.min() < 0 or outputs.max() > 1


@pytest.mark.parametrize("name", ADAPTED)
@settings(max_examples=4)
@given(height=st.integers(1, 100), width=st.integers(1, 100))
def test_any_size(name, height, width):
    with torch.no_grad():
        assert build(name).eval()(torch.randn(1, 1, height, width)).shape == (1, 1, height, width)


@pytest.mark.parametrize("name", ADAPTED)
def test_padding_is_zeros_at_the_bottom_and_right(name):
    network = build(name).eval()
    x = frames(size=70, batch=1)
    padded = torch.nn.functional.pad(x, (0, 96 - 70, 0, 96 - 70))
    if network.size_multiple == 16:
        padded = padded[..., :80, :80]
    with torch.no_grad():
        assert torch.equal(network(x), network(padded)[..., :70, :70])


@pytest.mark.parametrize("name", COMPARATORS)
def test_state_dict_does_not_depend_on_deep_supervision(name, tmp_path):
    trained, predicting = build(name, deep_supervision=True).eval(), build(name, deep_supervision=False).eval()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.01)
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    predicting.load_state_dict(torch.load(tmp_path / "weights.pth"))
    with torch.no_grad():
        expected, actual = trained(frames()), predicting(frames())
    assert torch.equal(actual, expected[0] if isinstance(expected, list) else expected)


@pytest.mark.parametrize("name", COMPARATORS)
def test_deep_supervision_is_switched_where_nnunet_switches_it(name):
    network = build(name, deep_supervision=True).eval()
    network.decoder.deep_supervision = False
    with torch.no_grad():
        assert isinstance(network(frames()), torch.Tensor)


@pytest.mark.parametrize("name", COMPARATORS)
def test_callers_may_write_into_the_logits(name):
    """nnU-Net adds to the outputs in place, under inference mode."""
    network = build(name).eval()
    with torch.inference_mode():
        first = network(frames(size=80))
        kept = first.clone()
        first += 1
        assert torch.equal(network(frames(size=80)), kept)


@pytest.mark.parametrize("name", COMPARATORS)
def test_autocast(name):
    network = build(name, deep_supervision=name in OUTPUTS)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(frames())
    outputs = outputs if isinstance(outputs, list) else [outputs]
    sum(output.float().mean() for output in outputs).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.parametrize("name", COMPARATORS)
def test_feature_map_size_grows_with_the_area(name):
    network = build(name)
    small, large = (network.compute_conv_feature_map_size(size) for size in ((64, 64), (128, 128)))
    assert 3.9 * small < large < 4.1 * small


@pytest.mark.parametrize("name", COMPARATORS)
def test_width_scale_scales_the_weights(name):
    half, full = (sum(p.numel() for p in build(name, scale=scale).parameters()) for scale in (0.25, 0.5))
    if name == "fganet":  # its widths are those of the plans
        assert full == half
    else:
        assert 2.5 * half < full < 4.5 * half


@pytest.mark.parametrize("name", COMPARATORS)
def test_batch_normalisation_of_several_gpus_leaves_the_network_as_it_is(name):
    """nnU-Net has torch replace each BatchNorm, and all that a library may have put inside, before it distributes."""
    network = build(name).eval()
    with torch.no_grad():
        expected = network(frames())
        converted = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network).eval()
        assert not any(type(module) is torch.nn.BatchNorm2d for module in converted.modules())
        assert torch.equal(converted(frames()), expected)


def test_plans_are_not_written_to():
    before = copy.deepcopy(PLANS)
    for name in COMPARATORS:
        build(name)
    assert before == PLANS
    architecture = COMPARATORS["deeplabv3plus"].architecture(PLANS, 0.25)
    blocks = copy.deepcopy(architecture["arch_kwargs"]["block_cfg"])
    from nnunet_fganet.comparators.deeplabv3plus import DeepLabV3Plus

    DeepLabV3Plus(1, 1, **architecture["arch_kwargs"])
    assert architecture["arch_kwargs"]["block_cfg"] == blocks


def test_widths_are_multiples_of_8():
    assert scaled((32, 64, 100), 0.25) == [8, 16, 24]
    assert scaled((32,), 0.01) == [8]


@pytest.mark.parametrize("name", ["unetplusplus", "attention_unet", "deeplabv3plus"])
def test_the_adapter_changes_nothing(name):
    """The library's own network with the same weights gives the same logits."""
    ours = build(name).eval()
    library = _library_network(name)
    library.load_state_dict(ours.network.state_dict())
    library.eval()
    with torch.no_grad():
        expected = library(frames())
    expected = expected[-1] if isinstance(expected, list) else expected
    with torch.no_grad():
        assert torch.equal(ours(frames()), expected)


@pytest.mark.parametrize("name", ["unetplusplus", "attention_unet", "deeplabv3plus"])
def test_the_adapter_trains_as_the_library_does(name):
    """From the same seed on: weights as the library draws them, and the same weights after some steps."""
    ours = build(name)
    torch.manual_seed(0)
    library = _library_network(name)
    for network in (ours, library):
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            logits = network(frames())
            logits = logits[-1] if isinstance(logits, list) else logits
            torch.nn.functional.binary_cross_entropy_with_logits(logits, (frames() > 1).float()).backward()
            optimizer.step()
    for key, tensor in library.state_dict().items():
        torch.testing.assert_close(ours.network.state_dict()[key], tensor, msg=lambda text, key=key: f"{key}: {text}")


def _library_network(name):
    if name == "unetplusplus":
        from monai.networks.nets import BasicUNetPlusPlus

        features = (8, 16, 32, 64, 128, 8)
        return BasicUNetPlusPlus(2, 1, 1, features, True, "relu", "batch", upsample="nontrainable")
    if name == "attention_unet":
        from monai.networks.nets import AttentionUnet

        return AttentionUnet(2, 1, 1, (16, 32, 64, 128, 256), (2, 2, 2, 2))
    import segmentation_models_pytorch as smp

    arguments = {"block_cfg": xception65_blocks(0.25), "decoder_channels": 64, "decoder_aspp_separable": False}
    return smp.DeepLabV3Plus("tu-xception65", encoder_weights=None, in_channels=1, **arguments)


def test_unet_is_the_librarys_encoder_and_decoder():
    from torch.nn import functional

    network = build("unet").eval()
    encoder, decoder = network.network
    weights = dict(decoder.named_parameters())
    with torch.no_grad():
        *skips, x = encoder(frames())
        assert [skip.shape[2] for skip in skips] == [64, 32, 16, 8]
        for stage, skip in enumerate(reversed(skips)):
            up = functional.conv_transpose2d(
                x, weights[f"transpconvs.{stage}.weight"], weights[f"transpconvs.{stage}.bias"], stride=2
            )
            x = decoder.stages[stage](torch.cat([up, skip], dim=1))
        expected = functional.conv2d(x, weights["seg_layers.0.weight"], weights["seg_layers.0.bias"])
        torch.testing.assert_close(network(frames()), expected)
    assert sum(isinstance(module, torch.nn.MaxPool2d) for module in encoder.modules()) == 4
    assert not any(isinstance(module, torch.nn.InstanceNorm2d) for module in network.modules())


def test_xception65_in_full_widths_is_timms():
    import timm

    ours = timm.create_model("xception65", block_cfg=xception65_blocks(1.0))
    library = timm.create_model("xception65")
    assert {n: p.shape for n, p in ours.state_dict().items()} == {n: p.shape for n, p in library.state_dict().items()}


def test_only_encoders_that_are_trained_alone_take_weights():
    taking = [name for name in ADAPTED if build(name).encoder is not None]
    assert taking == ["cenet", "deeplabv3plus"]
    assert all(isinstance(build(name), AdaptedNetwork) for name in ADAPTED)


COMPILE = """
import copy, torch
from comparator_plans import build

for name in ("unet", "unetplusplus", "attention_unet", "deeplabv3plus", "cenet"):
    # One goes all the way; for the others it is enough that torch can trace them.
    backend = "inductor" if name == "unet" else "eager"
    torch._dynamo.reset()
    network = build(name, deep_supervision=True).eval()  # DeepLabV3+ drops out at random in training
    compiled = torch.compile(copy.deepcopy(network), backend=backend)
    x = torch.randn(2, 1, 64, 64)
    expected, actual = network(x), compiled(x)
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3, msg=lambda text: f"{name}: {text}")
    actual = actual if isinstance(actual, list) else [actual]
    sum(output.mean() for output in actual).backward()
"""


@pytest.mark.slow
def test_compile():
    """In a process of its own: torch's compile workers stay alive and disturb later forks."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
