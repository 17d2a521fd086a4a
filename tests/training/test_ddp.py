"""Two processes on the CPU (gloo), as nnU-Net's -num_gpus starts them on GPUs."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.network.fganet import FGANet

WORLD = 2


def network(norm):
    torch.manual_seed(0)
    net = FGANet(1, 1, deep_supervision=True, features_per_stage=(8, 16, 16), norm=norm, dropout=0.0)
    net.apply(net.initialize)
    return net


def batch():
    generator = torch.Generator().manual_seed(1)
    label = torch.zeros(WORLD, 1, 64, 64)
    label[:, :, 20:22, 5:50] = 1
    label[1, :, :, 30:] = 0  # the processes see different amounts of wire
    return torch.randn(WORLD, 1, 64, 64, generator=generator), label


def train_step(rank, folder, norm):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    net = DistributedDataParallel(network(norm))
    images, labels = batch()
    loss = FGANetLoss(regions=True, cross_entropy_weight=0.0, distributed=True)
    # DistributedDataParallel raises at the second step if a parameter got no gradient in the first.
    for _ in range(2):
        net.zero_grad()
        loss(net(images[rank : rank + 1]), labels[rank : rank + 1]).backward()
    if rank == 0:
        torch.save(
            {name: parameter.grad for name, parameter in net.module.named_parameters()}, f"{folder}/gradients.pth"
        )
    dist.destroy_process_group()


@pytest.mark.slow
def test_no_parameter_is_without_a_gradient(tmp_path):
    mp.spawn(train_step, args=(str(tmp_path), "batch"), nprocs=WORLD)
    gradients = torch.load(tmp_path / "gradients.pth")
    assert [name for name, gradient in gradients.items() if gradient is None] == []


@pytest.mark.slow
def test_every_parameter_has_the_gradient_of_the_whole_batch(tmp_path):
    mp.spawn(train_step, args=(str(tmp_path), "instance"), nprocs=WORLD)
    distributed = torch.load(tmp_path / "gradients.pth")
    net = network("instance")
    images, labels = batch()
    FGANetLoss(regions=True, cross_entropy_weight=0.0)(net(images), labels).backward()
    for name, parameter in net.named_parameters():
        assert distributed[name] is not None, name
        # Rounding differs between one image and two, and may tip a max-pool; a wrong factor would show.
        difference = (distributed[name] - parameter.grad).norm() / parameter.grad.norm().clamp_min(1e-4)
        assert difference < 1e-2, f"{name}: {difference}"
