import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunet_fganet.training.schedule import CosineSchedule, cosine_learning_rate


def optimizer(rate=0.1):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], rate)


def test_agrees_with_torchs_own_cosine_schedule():
    ours, theirs = optimizer(), optimizer()
    schedule = CosineSchedule(ours, 0.1, 180)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=180)
    for epoch in range(180):
        schedule.step(epoch)
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], abs=1e-12)
        theirs.step()
        reference.step()


@given(epoch=st.integers(0, 1000), earlier=st.integers(0, 1000))
def test_the_rate_depends_on_the_epoch_alone(epoch, earlier):
    jumping, fresh = optimizer(), optimizer()
    schedule = CosineSchedule(jumping, 0.1, 180)
    schedule.step(earlier)
    schedule.step(epoch)
    CosineSchedule(fresh, 0.1, 180).step(epoch)
    assert jumping.param_groups[0]["lr"] == fresh.param_groups[0]["lr"]


def test_the_literal_schedule_is_back_at_its_maximum_at_epoch_100():
    rates = [cosine_learning_rate(1e-8, epoch, 50) for epoch in range(180)]
    assert rates[0] == rates[100] == 1e-8
    assert rates[50] == rates[150] == pytest.approx(0, abs=1e-24)
