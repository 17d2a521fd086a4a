import pytest
import torch

from nnunet_fganet.training.sgd import make_sgd

CPU = torch.device("cpu")


def weights():
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)) for _ in range(2)]


def step(optimizer, parameters, seed):
    torch.manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape).to(memory_format=torch.channels_last)
    optimizer.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_update_is_that_of_plain_sgd(momentum):
    ours, theirs = weights(), weights()
    fused = make_sgd(ours, CPU, 0.1, momentum, 1e-2)
    plain = torch.optim.SGD(theirs, 0.1, momentum, weight_decay=1e-2, nesterov=momentum > 0)
    assert fused.param_groups[0]["fused"]
    for seed in range(4):
        # The second weight joins later, as that of an encoder that is frozen at first.
        step(fused, ours[: 1 if seed < 2 else 2], seed)
        step(plain, theirs[: 1 if seed < 2 else 2], seed)
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other)


def test_gradients_and_momenta_in_another_layout():
    """As a checkpoint may hold them: torch's fused update would take their numbers in the wrong order."""
    ours, theirs = weights(), weights()
    one_pass, plain = make_sgd(ours, CPU, 0.1, 0.9, 0.0), torch.optim.SGD(theirs, 0.1, 0.9, nesterov=True)
    for seed in range(3):
        step(one_pass, ours, seed)
        step(plain, theirs, seed)
        for parameter in ours:
            state = one_pass.state[parameter]
            state["momentum_buffer"] = state["momentum_buffer"].contiguous()
            parameter.grad = parameter.grad.contiguous()
    one_pass.step()
    plain.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)
        assert one_pass.state[mine]["momentum_buffer"].stride() == mine.stride()


def test_a_checkpoint_goes_on():
    ours, theirs = weights(), weights()
    one_pass, plain = make_sgd(ours, CPU, 0.1, 0.9, 1e-2), torch.optim.SGD(theirs, 0.1, 0.9, 0, 1e-2, nesterov=True)
    step(one_pass, ours, 0)
    step(plain, theirs, 0)
    again = make_sgd(ours, CPU, 0.1, 0.9, 1e-2)
    again.load_state_dict(one_pass.state_dict())
    step(again, ours, 1)
    step(plain, theirs, 1)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_a_closure_is_called_with_gradients():
    (parameter, _) = weights()
    optimizer = make_sgd([parameter], CPU, 0.1, 0.9, 0.0)
    before = parameter.detach().clone()

    def closure():
        loss = parameter.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == pytest.approx(float(before.square().sum()))
    assert not torch.equal(before, parameter)


def test_an_update_is_seen_by_who_watches_the_weights():
    parameters = weights()
    versions = [parameter._version for parameter in parameters]
    step(make_sgd(parameters, CPU, 0.1, 0.9, 0.0), parameters, 0)
    assert all(parameter._version > version for parameter, version in zip(parameters, versions, strict=True))


def test_on_a_gpu_the_gradient_scaler_decides_whether_there_is_a_step():
    """A fused update leaves its momentum unwritten where the scaler finds that the first step overflows."""
    optimizer = make_sgd(weights(), torch.device("cuda"), 0.1, 0.9, 0.0)
    assert not optimizer.param_groups[0]["fused"] and not hasattr(optimizer, "_step_supports_amp_scaling")
