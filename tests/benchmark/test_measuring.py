import time

import pytest
import torch

from nnunet_fganet.benchmark.inference import _onnxruntime, _openvino, mask_agreement
from nnunet_fganet.benchmark.limit import convolution_throughput
from nnunet_fganet.benchmark.measuring import WARM_UP, measure
from nnunet_fganet.benchmark.network import (
    _TRAINING_FRAMES,
    _TRAINING_SIZE,
    call_wire,
    frame_and_label,
    trained_like_network,
    with_dropout,
)
from nnunet_fganet.benchmark.parts import PARTS, REST, time_by_part
from nnunet_fganet.benchmark.training import cosine_similarities, make_optimizer
from nnunet_fganet.inference.prepared import optimize_for_inference
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.network.sda import SDA


def test_a_measurement_leaves_the_warm_up_out():
    calls = []

    def call():
        time.sleep(0.05 if len(calls) < WARM_UP else 0.001)
        calls.append(1)
        return len(calls)

    measured = measure(lambda: call, 5, "cpu")
    assert (len(measured.times), measured.result) == (5, WARM_UP + 5)
    assert measured.times == sorted(measured.times)
    assert 1 <= measured.milliseconds < 50


def test_on_a_gpu_no_run_is_timed_while_the_warm_up_is_computed(monkeypatch):
    """The order of events, with a GPU that is only counted on: one is not at hand everywhere."""
    events = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: events.append("wait"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 0)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 0)
    measure(lambda: lambda: events.append("call"), 2, "cuda")
    assert events == ["call"] * WARM_UP + ["wait", "call", "wait", "call", "wait"]


def test_peak_memory_is_that_of_building_and_running():
    megabytes = 200

    def build():
        kept = torch.ones(megabytes * 250_000)
        return lambda: float((kept + 1)[0])

    peak = measure(build, 2, "cpu").peak_mb
    if peak is None:
        pytest.skip("this system does not tell the peak of the resident memory")
    assert 1.8 * megabytes < peak < 2.4 * megabytes


def test_agreement_of_masks():
    wire = torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert mask_agreement(wire, wire) == 1
    assert mask_agreement(torch.tensor([1.0, -1.0, -1.0, -1.0]), wire) == 0.5
    assert mask_agreement(-wire.abs(), -wire.abs()) == 1


def test_cosine_similarities():
    expected = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([0.0, 0.0])}
    assert cosine_similarities(expected, expected) == {"a": 1}
    turned = {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([0.0, 0.0])}
    assert cosine_similarities(turned, expected) == {"a": pytest.approx(0.5**0.5)}


@pytest.mark.parametrize(("is_reference", "device", "fused"), [(True, "cpu", False), (False, "cpu", True)])
def test_a_step_is_updated_as_the_trainer_updates_it(is_reference, device, fused):
    layer = torch.nn.Linear(1, 1)
    optimizer = make_optimizer(layer, torch.device(device), is_reference)
    assert bool(optimizer.defaults["fused"]) is fused
    layer(torch.ones(1, 1)).sum().backward()
    before = layer.weight._version
    optimizer.step()
    assert layer.weight._version > before  # by which FGA-Net knows that it must be prepared anew


def test_on_a_gpu_the_update_is_not_fused():
    assert not make_optimizer(torch.nn.Linear(1, 1), torch.device("cuda"), False).defaults["fused"]


def test_throughput_is_a_plausible_number():
    assert 1e8 < convolution_throughput("cpu", torch.float32) < 1e14


def test_parts_add_up_to_the_whole():
    class Inner(torch.nn.Conv2d):
        def forward(self, x):
            time.sleep(0.02)
            return x

    class Outer(SDA):
        def forward(self, x):
            time.sleep(0.01)
            return self.pointwise(x)

    outer = Outer(8)
    outer.pointwise = Inner(8, 8, 1)
    parts = {Outer: "outer", Inner: "inner"}
    network = torch.nn.Sequential(outer)
    start = time.perf_counter()
    found = time_by_part(network, lambda: (time.sleep(0.005), network(torch.zeros(1))), parts)
    total = (time.perf_counter() - start) * 1e3
    assert set(found) == {"outer", "inner", REST}
    assert found["inner"] >= 20 and found["outer"] >= 10 and found[REST] >= 5
    assert sum(found.values()) <= total
    assert not any(module._forward_hooks for module in network.modules())


def test_every_part_of_a_network_is_found_before_and_after_preparation():
    network = FGANet(1, 1, features_per_stage=(16, 16, 32, 32)).eval()
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        found = time_by_part(network, lambda: network(image))
        prepared = optimize_for_inference(network, torch.float32)
        in_prepared = time_by_part(prepared, lambda: prepared(image))
    assert found.keys() == {*PARTS.values(), REST}
    assert in_prepared.keys() == found.keys() - {"BatchNorm, activation"}  # folded


@pytest.mark.parametrize("build", [_onnxruntime, _openvino])
def test_other_runtimes_compute_frames_that_are_padded(build):
    pytest.importorskip(build.__name__[1:], reason="comes with the extra benchmark")
    network = FGANet(1, 1, features_per_stage=(8, 8, 8, 8)).eval()
    image = torch.randn(1, 1, 40, 57)
    with torch.no_grad():
        torch.testing.assert_close(build(network, image)(), network(image), atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_the_network_behaves_as_a_trained_one():
    network = trained_like_network()
    frame, label = frame_and_label(96)
    assert frame.shape == label.shape == (1, 1, 96, 96)
    assert 0 < label.mean() < 0.1
    training = [frame_and_label(_TRAINING_SIZE, seed) for seed in range(_TRAINING_FRAMES)]
    images, labels = (torch.cat(each) for each in zip(*training, strict=True))
    with torch.no_grad():
        called = network(images) > 0
    assert called.float().mean().item() == pytest.approx(labels.mean().item(), rel=0.01)
    assert (called & (labels > 0)).sum() > 0.5 * labels.sum()
    call_wire(network, frame, label)
    with torch.no_grad():
        logits = network(frame)
    assert 0.001 < (logits > 0).float().mean() < 0.2
    noise = 1e-3 * torch.randn_like(frame)
    with torch.no_grad():
        change = network(frame + noise) - logits
    assert change.std() / logits.std() < 0.05  # random weights amplify it much more
    dropping = with_dropout(network, 0.2).train()
    assert not torch.equal(dropping(frame), dropping(frame))
