"""Two workers that share a batch learn what one with the whole batch learns."""

from __future__ import annotations

import socket

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn

from pipeline.training.learn.group import Group, SharedNorm, share_norms
from pipeline.training.learn.semantic import semantic_loss


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 3, 1)
    )


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    image = torch.randn(4, 3, 8, 9, generator=generator)
    label = torch.randint(-1, 3, (4, 8, 9), generator=generator)
    label[0] = -1  # workers have different numbers of pixels that teach
    return image, label


def learn(group: Group, steps: int = 3) -> dict[str, torch.Tensor]:
    net = network()
    share_norms(net, group)
    group.agree(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    image, label = batch()
    own = slice(group.rank * 4 // group.size, (group.rank + 1) * 4 // group.size)
    weights = torch.tensor([1.0, 2.0, 0.5])
    for _ in range(steps):
        loss = semantic_loss(net(image[own]), label[own], weights=weights, dice=True, group=group)
        optimizer.zero_grad()
        loss.backward()
        group.share_gradients(list(net.parameters()))
        optimizer.step()
    return {**net.state_dict(), "loss": loss.detach()}


def worker(rank: int, port: int, path: str) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    state = learn(Group.current())
    torch.save(state, f"{path}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_workers_equal_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(worker, (port, str(tmp_path)), nprocs=2)
    alone = learn(Group())
    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, value in alone.items():
        torch.testing.assert_close(both[0][name], both[1][name], rtol=0, atol=0)
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(both[0][name], value, rtol=1e-4, atol=1e-5)


def test_one_worker_is_left_as_it_is():
    net = network()
    share_norms(net, Group())
    assert not any(isinstance(module, SharedNorm) for module in net.modules())
    value = torch.ones(2, requires_grad=True)
    assert Group().total(value) is value


@pytest.mark.parametrize("training", [True, False])
def test_a_shared_norm_alone_is_an_ordinary_one(training: bool):
    net, other = network().train(training), network().train(training)
    share_norms(other, Group(0, 2))
    for module in other.modules():
        if isinstance(module, SharedNorm):
            module.group = Group()
    image, _ = batch()
    torch.testing.assert_close(net(image), other(image))
