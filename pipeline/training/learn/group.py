"""Workers that learn together: sums over all of them, through which gradients flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Group:
    """This worker among all; the default is alone.

    Attributes:
        rank: From 0; worker 0 writes.
        size: Workers.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Group:
        """The group that torch.distributed was started with."""
        return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())

    def total(self, value: Tensor) -> Tensor:
        """The sum over all workers; a gradient through it reaches every worker's share."""
        if self.size == 1:
            return value
        return _Total.apply(value)

    def share_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Gives every worker the mean gradient.

        A loss that is made of `total`s is the same number on every worker, and its gradient by a
        worker's own output comes back once from each: the mean over workers of the gradients is
        that of one worker with the whole batch.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([each.reshape(-1) for each in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for own, mean in zip(
            gradients, flat.split([each.numel() for each in gradients]), strict=True
        ):
            own.copy_(mean.view_as(own))

    def agree(self, net: nn.Module) -> None:
        """Gives every worker the weights of worker 0."""
        if self.size > 1:
            for value in net.state_dict().values():
                torch.distributed.broadcast(value, 0)

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            torch.distributed.barrier()


class _Total(torch.autograd.Function):
    """The sum over all workers. Each one's share is in each one's loss: gradients add up, too."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _summed(value)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _summed(gradient)


def _summed(value: Tensor) -> Tensor:
    total = value.clone(memory_format=torch.contiguous_format)
    torch.distributed.all_reduce(total)
    return total


class SharedNorm(nn.BatchNorm2d):
    """Batch normalisation over the crops of all workers, on any device.

    torch's own works on GPUs alone and averages otherwise: this one equals a single worker's.
    """

    group: Any  # nn.Module's own annotations allow modules and tensors alone

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name is torch's)
        """BxCxHxW → the same."""
        if not self.training or self.group.size == 1:
            return super().forward(input)
        x = input.float()
        count = torch.tensor([x.numel() / x.shape[1]], device=x.device)
        sums = self.group.total(torch.cat([x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), count]))
        first, second = sums[:-1].view(2, -1) / sums[-1]
        variance = (second - first.square()).clamp_min(0)
        if self.running_mean is not None and self.running_var is not None:
            momentum = self.momentum if self.momentum is not None else 0.1
            with torch.no_grad():
                unbiased = variance * (sums[-1] / (sums[-1] - 1))
                self.running_mean.lerp_(first.detach(), momentum)
                self.running_var.lerp_(unbiased.detach(), momentum)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        shift = self.bias - first * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(input.dtype)


def share_norms(net: nn.Module, group: Group) -> None:
    """Lets the batch normalisations of a network see the crops of all workers."""
    if group.size == 1:
        return
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedNorm
            cast("SharedNorm", module).group = group
