import pytest
import torch
from comparator_plans import build
from safetensors.torch import save_file
from torchvision.models import resnet34

from nnunet_fganet.comparators.cenet import CENet
from nnunet_fganet.comparators.encoder_weights import load_encoder_weights
from nnunet_fganet.comparators.registry import RESNET34_WIDTHS
from nnunet_fganet.errors import InputError


@pytest.fixture(scope="module")
def pretrained():
    torch.manual_seed(1)
    network = resnet34(weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
    return network


def cenet(input_channels):
    return CENet(input_channels, 1, widths=RESNET34_WIDTHS).eval()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_torchvisions_weights(tmp_path, pretrained, suffix):
    file = tmp_path / f"resnet34{suffix}"
    save = torch.save if suffix == ".pth" else save_file
    save(pretrained.state_dict(), file)
    network = cenet(3)
    load_encoder_weights(network, file)
    ours = network.encoder.state_dict()
    for name, tensor in pretrained.state_dict().items():
        assert name.startswith("fc.") or torch.equal(ours[name], tensor)


def test_one_channel_sees_what_three_equal_channels_would(tmp_path, pretrained):
    torch.save(pretrained.state_dict(), tmp_path / "w.pth")
    grey, colour = cenet(1), cenet(3)
    for network in (grey, colour):
        load_encoder_weights(network, tmp_path / "w.pth")
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(grey.encoder(x), colour.encoder(x.expand(1, 3, 64, 64)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_file_of_timms_xception(tmp_path):
    """timm names the layers of networks that return features otherwise than those that classify."""
    import timm

    from nnunet_fganet.comparators.registry import xception65_blocks

    whole = timm.create_model("xception65", block_cfg=xception65_blocks(0.25), in_chans=1)
    torch.save(whole.state_dict(), tmp_path / "xception65.pth")
    network = build("deeplabv3plus")
    load_encoder_weights(network, tmp_path / "xception65.pth")
    convolutions = [m.weight for m in network.encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    theirs = [m.weight for m in whole.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == len(theirs)
    assert all(torch.equal(a, b) for a, b in zip(convolutions, theirs, strict=True))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "does not exist"),
        (b"no weights", "torch can read"),
        ({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "lacks layers of the encoder"),
        ([1, 2], "no state dict"),
    ],
)
def test_unusable_files_are_named(tmp_path, content, word):
    file = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(InputError, match=word) as error:
        load_encoder_weights(build("cenet"), file)
    assert str(file) in str(error.value)


def test_other_widths_are_named(tmp_path, pretrained):
    torch.save(pretrained.state_dict(), tmp_path / "w.pth")
    before = {name: tensor.clone() for name, tensor in build("cenet").state_dict().items()}
    network = build("cenet")
    with pytest.raises(InputError, match="other widths"):
        load_encoder_weights(network, tmp_path / "w.pth")
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_networks_without_such_an_encoder_are_named(tmp_path):
    for name in ("unet", "nnunet"):
        with pytest.raises(InputError, match="takes none"):
            load_encoder_weights(build(name), tmp_path / "w.pth")
