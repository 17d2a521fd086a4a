import copy
import shutil

import pytest
import torch

from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.inference.automatic import AutomaticInference
from nnunet_fganet.inference.deform import PackedDeformConv2d
from nnunet_fganet.inference.packing import (
    Bfloat16Conv2d,
    DepthwiseConv2d,
    FewChannelsConv2d,
    FixedPointConv2d,
    PackedConv2d,
    WinogradConv2d,
)
from nnunet_fganet.inference.prepared import optimize_for_inference
from nnunet_fganet.network.dropout import Dropout
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.network.sda import SDA

WIDTHS = (8, 16, 24, 32)
CONVOLUTIONS = (PackedConv2d, Bfloat16Conv2d, WinogradConv2d, FixedPointConv2d, FewChannelsConv2d, DepthwiseConv2d)
VARIANTS = {
    "released": {},
    "paper_text": {"modulated": True, "fusion_kernel_size": 1, "features_per_stage": (8, 16, 24, 48)},
    "no_sda": {"sda": False},
    "no_bga": {"bga": False},
    "instance_norm": {"norm": "instance"},
    "torchvision": {"deform_backend": "torchvision"},
    "narrow": {"features_per_stage": (8, 8, 8)},
    "wide": {"features_per_stage": (8, 16, 128, 128)},  # its first decoder stage has deformable convolutions in 8 bits
}


def network(channels=2, classes=3, **arguments):
    """A network with weights and statistics as after training: nothing is zero or one."""
    torch.manual_seed(0)
    built = FGANet(channels, classes, **{"features_per_stage": WIDTHS, **arguments})
    built.apply(built.initialize)
    for module in built.modules():
        if isinstance(module, SDA):
            torch.nn.init.normal_(module.offset_conv.weight, std=0.05)
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
        if getattr(module, "affine", False):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.5)
    return built.eval()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(1, 2, 64, 96), (1, 2, 50, 70), (3, 2, 64, 64)])
def test_logits_agree_with_the_network(variant, shape):
    reference = network(**VARIANTS[variant])
    prepared = optimize_for_inference(reference, torch.float32)
    x = torch.randn(shape)
    with torch.no_grad():
        expected = reference(x)
    torch.testing.assert_close(prepared(x), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


@pytest.mark.parametrize(
    "units, error", [({"amx_bf16": True}, 0.05), ({"avx512_bf16": True}, 0.005), ({"avx2": True}, 0.005)]
)
def test_bfloat16_is_close_and_closer_without_matrix_units(monkeypatch, units, error):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    reference = network()
    x = torch.randn(1, 2, 64, 64)
    with torch.no_grad():
        expected = reference(x)
    prepared = optimize_for_inference(reference, torch.bfloat16)
    logits = prepared(x)
    assert prepared.dtype == torch.bfloat16 and logits.dtype == torch.float32
    assert 0.1 * error < (logits - expected).norm() / expected.norm() < error  # less would be float32


def test_frames_of_many_channels():
    """More than the loops for a few channels take."""
    torch.manual_seed(0)
    reference = FGANet(9, 2, features_per_stage=WIDTHS).eval()
    x = torch.randn(1, 9, 64, 64)
    with torch.no_grad():
        expected = reference(x)
    logits = optimize_for_inference(reference, torch.bfloat16)(x)
    assert (logits - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_frames_are_not_rounded_in_bfloat16(monkeypatch, norm):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    prepared = optimize_for_inference(network(norm=norm), torch.bfloat16)
    x = torch.randn(1, 2, 64, 64)
    assert not torch.equal(prepared(x), prepared(x.bfloat16().float()))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(1, 2, 64, 96), (3, 2, 50, 70)])
def test_every_variant_in_bfloat16(monkeypatch, variant, shape):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    reference = network(**VARIANTS[variant])
    x = torch.randn(shape)
    with torch.no_grad():
        expected = reference(x)
    error = (optimize_for_inference(reference, torch.bfloat16)(x) - expected).norm() / expected.norm()
    assert 1e-5 < error < 0.05


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_networks_compute_the_same(monkeypatch, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    reference, x = network(**VARIANTS["wide"]), torch.randn(1, 2, 64, 64)
    compiled = optimize_for_inference(reference, dtype, compiled=True)(x)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(compiled, optimize_for_inference(reference, dtype)(x), rtol=tolerance, atol=tolerance)


@pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for 8-bit integers (AMX)")
@pytest.mark.parametrize(("channels", "classes", "ends"), [(1, 1, FewChannelsConv2d), (2, 3, FixedPointConv2d)])
def test_with_matrix_units_fine_stages_are_in_float16(monkeypatch, channels, classes, ends):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    reference = network(channels, classes, features_per_stage=(16, 16, 24, 32, 32))
    prepared = optimize_for_inference(reference, torch.bfloat16).network
    kinds = [
        {type(layer) for layer in stage.modules() if isinstance(layer, CONVOLUTIONS)}
        for stage in [*prepared.encoder.stages, *prepared.decoder.stages, prepared.decoder.seg_layers]
    ]
    assert kinds[:3] == [{ends, FixedPointConv2d}, {FixedPointConv2d}, {FixedPointConv2d}]
    assert kinds[3:7] == 4 * [{PackedConv2d}]
    assert kinds[7:] == [*2 * [{FixedPointConv2d}], {ends}]
    assert prepared.encoder.stages[3][-1][0].weight.dtype == torch.bfloat16


def test_without_matrix_units_deformable_convolutions_alone_are_in_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": False})
    prepared = optimize_for_inference(network(), torch.bfloat16)
    biases = {PackedConv2d: set(), WinogradConv2d: set(), PackedDeformConv2d: set()}
    for module in prepared.modules():
        if type(module) in biases and module.bias is not None:
            biases[type(module)].add(module.bias.dtype)
    assert list(biases.values()) == [{torch.float32}, {torch.float32}, {torch.bfloat16}]


def test_later_changes_do_not_reach_the_copy_nor_the_copy_the_network():
    reference = network(deep_supervision=True)
    before = copy.deepcopy(reference.state_dict())
    prepared = optimize_for_inference(reference, torch.float32)
    x = torch.randn(1, 2, 64, 64)
    logits = prepared(x)
    assert reference.decoder.deep_supervision
    assert all(torch.equal(before[name], value) for name, value in reference.state_dict().items())
    with torch.no_grad():
        reference.decoder.seg_layers[0].weight.zero_()
    assert torch.equal(prepared(x), logits)


def test_callers_may_write_into_the_logits():
    prepared = optimize_for_inference(network(), torch.float32)
    x = torch.randn(1, 2, 64, 64)
    first = prepared(x)
    kept = first.clone()
    first += 1
    assert torch.equal(prepared(x), kept)


@pytest.fixture
def prepared_count(monkeypatch):
    """How often a network was prepared."""
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return optimize_for_inference(*arguments)

    monkeypatch.setattr("nnunet_fganet.inference.automatic.optimize_for_inference", counted)
    return lambda: len(calls)


@pytest.fixture
def automatic():
    built = network()
    built.inference = AutomaticInference()
    return built


X = torch.randn(1, 2, 64, 64)


@torch.no_grad()
def test_prepared_once_although_the_weights_are_loaded_before_every_frame(automatic, prepared_count):
    weights = {name: value.clone() for name, value in automatic.state_dict().items()}
    for _ in range(20):
        automatic.load_state_dict(weights)
        automatic(X)
    assert prepared_count() == 1


def test_weights_that_are_assigned_take_the_place_of_equal_ones(automatic):
    weights = {name: value.clone() for name, value in automatic.state_dict().items()}
    automatic.load_state_dict(weights)
    automatic.load_state_dict(weights, assign=True)
    bias = automatic.decoder.seg_layers[0].bias
    assert bias.data_ptr() == weights["decoder.seg_layers.0.bias"].data_ptr()


@torch.no_grad()
def test_every_change_of_the_weights_is_seen(automatic, prepared_count):
    first = automatic(X)
    automatic.decoder.seg_layers[0].bias.add_(1)
    torch.testing.assert_close(automatic(X), first + 1)
    weights = {name: value.clone() for name, value in automatic.state_dict().items()}
    weights["decoder.seg_layers.0.bias"] += 1
    automatic.load_state_dict(weights)
    torch.testing.assert_close(automatic(X), first + 2)
    weights["decoder.seg_layers.0.bias"] += 1  # the same dictionary, other values
    automatic.load_state_dict(weights)
    torch.testing.assert_close(automatic(X), first + 3)
    automatic.decoder.seg_layers[0].bias.sub_(1)  # the network has changed since it was loaded
    automatic.load_state_dict(weights)
    torch.testing.assert_close(automatic(X), first + 3)  # prepared from this dictionary already
    assert prepared_count() == 4


@torch.no_grad()
def test_training_in_between_prepares_anew(automatic, prepared_count, capsys):
    automatic(X)
    automatic.train()(X)
    automatic.eval()(X)
    assert prepared_count() == 2
    assert capsys.readouterr().out.count("prepared for inference") == 2


def test_a_fused_step_in_between_prepares_anew(automatic):
    with torch.no_grad():
        automatic(X)
    automatic(X).sum().backward()
    torch.optim.SGD(automatic.parameters(), lr=1e-3, fused=True).step()  # torch does not count such changes
    with torch.no_grad():
        found, automatic.inference = automatic(X), None
        torch.testing.assert_close(found, automatic(X), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_other_weights_before_every_frame_are_reported_once(automatic, prepared_count, capsys):
    for _ in range(3):
        automatic.decoder.seg_layers[0].bias.add_(1)
        automatic(X)
    assert prepared_count() == 3
    assert capsys.readouterr().out.count("prepared for inference") == 1


@torch.no_grad()
def test_several_folds_are_prepared_once_each_where_they_are_kept(monkeypatch, automatic, prepared_count):
    monkeypatch.setattr("nnunet_fganet.inference.automatic._KEPT", {"cpu": 2})  # as on GPUs
    folds = [{name: value.clone() for name, value in automatic.state_dict().items()} for _ in range(2)]
    folds[1]["decoder.seg_layers.0.bias"] += 1
    for _ in range(3):
        logits = []
        for fold in folds:
            automatic.load_state_dict(fold)
            logits.append(automatic(X))
        torch.testing.assert_close(logits[0] + 1, logits[1])
    assert prepared_count() == 2
    folds[0]["decoder.seg_layers.0.bias"] += 2  # the same dictionary, other values
    automatic.load_state_dict(folds[0])
    torch.testing.assert_close(automatic(X), logits[0] + 2)
    automatic.load_state_dict(folds[1])
    automatic.decoder.seg_layers[0].bias.add_(1)  # no longer what was loaded
    torch.testing.assert_close(automatic(X), logits[1] + 1)
    assert prepared_count() == 4


@torch.no_grad()
def test_weights_of_a_dictionary_that_is_gone_are_not_taken_for_those_of_another(monkeypatch, automatic):
    monkeypatch.setattr("nnunet_fganet.inference.automatic._KEPT", {"cpu": 2})
    expected = automatic(X)
    for added in range(3):  # each dictionary may lie where the one before lay
        weights = {name: value.clone() for name, value in automatic.state_dict().items()}
        weights["decoder.seg_layers.0.bias"] += added
        automatic.load_state_dict(weights)
        expected = expected + added
        torch.testing.assert_close(automatic(X), expected)
        del weights


def test_operations_of_a_network_that_prepares_itself_are_counted(automatic):
    assert automatic.compute_conv_feature_map_size((64, 64)) > 0


@torch.no_grad()
def test_dropout_that_is_left_on_draws_anew_for_every_frame(prepared_count):
    built = network(dropout=0.5)
    built.inference = AutomaticInference()
    for module in built.modules():
        if isinstance(module, Dropout):
            module.train()
    assert not torch.equal(built(X), built(X))
    assert prepared_count() == 0


def test_the_network_itself_computes_where_it_must(automatic, prepared_count):
    automatic(X.requires_grad_()).sum().backward()
    assert automatic.decoder.seg_layers[0].bias.grad is not None
    with torch.no_grad():
        automatic.decoder.deep_supervision = True
        assert isinstance(automatic(X), list)
        automatic.decoder.deep_supervision = False
        seen = []
        handle = automatic.encoder.register_forward_hook(lambda *_: seen.append(1))
        automatic(X)
        handle.remove()
        torch.jit.trace(automatic, X, check_trace=False)
    assert seen == [1]
    assert prepared_count() == 0


def test_moving_a_network_in_inference_mode_keeps_the_versions_of_its_weights(automatic, prepared_count):
    """As nnU-Net's predictor moves it to a GPU."""
    weights = {name: value.clone() for name, value in automatic.state_dict().items()}
    automatic.load_state_dict(weights)
    with torch.inference_mode():
        automatic.double().float()
        for _ in range(3):
            automatic.load_state_dict(weights)
            automatic(X)
    assert prepared_count() == 1
    assert not any(value.is_inference() for value in automatic.state_dict().values())


@torch.no_grad()
def test_weights_without_versions_are_never_prepared(prepared_count):
    with torch.inference_mode():
        built = network()
        built.inference = AutomaticInference()
        built(X)
    assert prepared_count() == 0


@torch.no_grad()
def test_copies_and_pickles_start_unprepared(automatic, tmp_path):
    automatic.load_state_dict(automatic.state_dict())
    logits = automatic(X)
    torch.save(automatic, tmp_path / "network.pt")
    for other in (copy.deepcopy(automatic), torch.load(tmp_path / "network.pt", weights_only=False)):
        torch.testing.assert_close(other(X), logits)


def test_loading_reports_what_torch_reports(automatic):
    weights = automatic.state_dict()
    del weights["decoder.seg_layers.0.bias"]
    with pytest.raises(RuntimeError, match="Missing key"):
        automatic.load_state_dict(weights)
    for _ in range(2):
        assert automatic.load_state_dict(weights, strict=False).missing_keys == ["decoder.seg_layers.0.bias"]
    with pytest.raises(RuntimeError, match="Missing key"):
        automatic.load_state_dict(weights)
    more = {**automatic.state_dict(), "epoch": 3}
    assert automatic.load_state_dict(more, strict=False).unexpected_keys == ["epoch"]
