from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from nnunet_fganet.loss import fganet_loss
from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.loss.skeleton import skeletons_together, soft_skeleton

GOLDEN = Path(__file__).parents[1] / "golden" / "loss.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def wires(batch=2, classes=1, size=32):
    """A label with a wire in each class, one row apart."""
    label = torch.zeros(batch, classes, size, size)
    for c in range(classes):
        label[:, c, 5 + 6 * c : 7 + 6 * c, 3:-3] = 1
    return label


def logits_like(label, seed=0):
    return torch.randn(label.shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_golden_skeletons(golden):
    for name, image in (("target", golden["target"]), ("probability", golden["logits"].sigmoid())):
        torch.testing.assert_close(soft_skeleton(image, 10), golden[f"soft_skeleton_iter10_{name}"], rtol=0, atol=1e-4)


def test_golden_losses(golden):
    def loss(**arguments):
        return FGANetLoss(regions=True, squared_denominator=False, **arguments)(
            golden["logits"], golden["target"]
        ).item()

    dice = loss(alpha=0.0, cross_entropy_weight=0)
    mixed = loss(alpha=0.25, cross_entropy_weight=0)
    assert dice == pytest.approx(golden["soft_dice_loss_batch_smooth1"].item(), abs=1e-4)
    assert mixed == pytest.approx(golden["dice_cldice_alpha025"].item(), abs=1e-4)
    cldice = (mixed - 0.75 * dice) / 0.25
    assert cldice == pytest.approx(golden["soft_cldice_loss_smooth1"].item(), abs=1e-4)
    assert loss(alpha=0.25) - mixed == pytest.approx(golden["bce"].item(), abs=1e-4)


def test_squared_denominator(golden):
    p, g = golden["logits"].sigmoid(), golden["target"]
    expected = 1 - (2 * (p * g).sum() + 1) / ((p * p).sum() + (g * g).sum() + 1)
    actual = FGANetLoss(regions=True, alpha=0.0, cross_entropy_weight=0)(golden["logits"], g)
    torch.testing.assert_close(actual, expected)


def test_deep_supervision_weighs_the_outputs_and_skeletonises_the_label_once(monkeypatch):
    label = wires()
    outputs = [logits_like(label, seed) for seed in range(6)]
    loss = FGANetLoss(regions=True, skeleton_iterations=3)
    expected = sum(0.5**i * loss(output, label) for i, output in enumerate(outputs))
    skeletonised = []

    def counting(x, iterations):
        skeletonised.append(x)
        return soft_skeleton(x, iterations)

    monkeypatch.setattr(fganet_loss, "soft_skeleton", counting)
    torch.testing.assert_close(loss(outputs, [label]), expected)
    assert sum(torch.equal(x, label) for x in skeletonised) == 1
    assert len(skeletonised) == 7


@pytest.mark.parametrize("regions", [True, False])
def test_outputs_skeletonised_together_give_the_same_loss(monkeypatch, regions):
    """As on GPUs."""
    label = wires()
    outputs = [logits_like(label, seed) for seed in range(3)]
    if not regions:
        outputs = [torch.cat((-each, each), 1) for each in outputs]
    loss = FGANetLoss(regions=regions, skeleton_iterations=3)
    expected = loss(outputs, label)

    def together(logits, target):
        return skeletons_together([loss._probability(each, target) for each in logits], 3)

    monkeypatch.setattr(loss, "_skeletons", together)
    torch.testing.assert_close(loss(outputs, label), expected)


def test_stage_weights():
    label = wires()
    outputs = [logits_like(label, seed) for seed in range(2)]
    single = FGANetLoss(regions=True)
    both = FGANetLoss(regions=True, stage_weights=(1.0, 3.0))
    torch.testing.assert_close(both(outputs, label), single(outputs[0], label) + 3 * single(outputs[1], label))
    with pytest.raises(ValueError, match="2 outputs"):
        FGANetLoss(regions=True, stage_weights=(1.0, 0.5, 0.25))(outputs, label)


def test_one_class_as_label_equals_the_same_as_region():
    """Softmax over (0, z) is sigmoid(z): both kinds of label must give one loss."""
    label = wires()
    logits = logits_like(label)
    as_region = FGANetLoss(regions=True)(logits, label)
    as_label = FGANetLoss(regions=False)(torch.cat((torch.zeros_like(logits), logits), 1), label)
    torch.testing.assert_close(as_label, as_region)


def test_several_classes_average():
    label = wires(classes=2)
    labels = (label * torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)).sum(1, keepdim=True)
    logits = torch.randn(2, 3, 32, 32)
    p = logits.softmax(1)[:, 1:]
    dice = [
        (2 * (p[:, c] * label[:, c]).sum() + 1) / (p[:, c].square().sum() + label[:, c].sum() + 1) for c in range(2)
    ]
    expected = 1 - sum(dice) / 2 + functional.cross_entropy(logits, labels[:, 0].long())
    torch.testing.assert_close(FGANetLoss(regions=False, alpha=0.0)(logits, labels), expected)


@pytest.mark.parametrize("regions", [True, False])
def test_ignored_pixels_count_nowhere(regions):
    label = wires()
    ignored = torch.zeros_like(label)
    ignored[..., 16:] = 1
    target = torch.cat((label, ignored), 1) if regions else torch.where(ignored == 1, 2, label)
    loss = FGANetLoss(regions=regions, ignore_label=2)
    logits = torch.randn(2, 1 if regions else 2, 32, 32).requires_grad_()
    value = loss(logits, target)
    value.backward()
    assert logits.grad[..., 16:].abs().max() == 0
    assert logits.grad[..., :16].abs().max() > 0
    with torch.no_grad():
        other = logits.clone()
        other[..., 16:] += 5
        torch.testing.assert_close(loss(other, target), value.detach())


@pytest.mark.parametrize("regions", [True, False])
@pytest.mark.parametrize("case", ["no_wire", "all_ignored", "huge_logits", "half", "bfloat16"])
def test_always_finite(regions, case):
    label = torch.zeros(2, 1, 32, 32) if case == "no_wire" else wires()
    channels = 1 if regions else 2
    logits = torch.randn(2, channels, 32, 32) * (1e4 if case == "huge_logits" else 1)
    logits = logits.to({"half": torch.float16, "bfloat16": torch.bfloat16}.get(case, torch.float32)).requires_grad_()
    ignored = torch.full_like(label, case == "all_ignored")
    target = torch.cat((label, ignored), 1) if regions else torch.where(ignored == 1, 2, label)
    value = FGANetLoss(regions=regions, ignore_label=2)(logits, target)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


def test_half_precision_sums_do_not_overflow():
    """Half of a large image is wire: its sum is beyond float16."""
    label = torch.zeros(1, 1, 512, 512)
    label[..., :256] = 1
    with torch.autocast("cpu", torch.bfloat16):
        value = FGANetLoss(regions=True, skeleton_iterations=1)(torch.zeros(1, 1, 512, 512, dtype=torch.float16), label)
    assert value.dtype == torch.float32
    expected = FGANetLoss(regions=True, skeleton_iterations=1)(torch.zeros(1, 1, 512, 512), label)
    torch.testing.assert_close(value, expected)


def test_per_image_averages_the_images():
    label = wires()
    label[1] = 0
    logits = logits_like(label)
    loss = FGANetLoss(regions=True, per_image=True)
    expected = (loss(logits[:1], label[:1]) + loss(logits[1:], label[1:])) / 2
    torch.testing.assert_close(loss(logits, label), expected)
    assert not torch.isclose(FGANetLoss(regions=True)(logits, label), expected)


def test_perfect_prediction_is_almost_free():
    label = wires()
    assert FGANetLoss(regions=True)(40 * (label - 0.5), label) < 1e-3


def test_gradients_agree_with_finite_differences():
    label = wires(batch=1, size=14)
    logits = logits_like(label).detach()
    loss = FGANetLoss(regions=True, skeleton_iterations=2)
    gradient = torch.autograd.functional.jacobian(lambda x: loss(x, label), logits)
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    step = 1e-3
    numeric = (loss(logits + step * direction, label) - loss(logits - step * direction, label)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=2e-2, atol=1e-3)


def test_alpha_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="alpha"):
        FGANetLoss(regions=True, alpha=1.0)
