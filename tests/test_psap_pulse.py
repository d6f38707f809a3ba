"""PSAP-R's pulses: derivatives of the loss, and the trap of BatchNorm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import tasks
from methods.families.structured import Prunable, allocation, analyse
from methods.interface import Split
from methods.psap.pulse import pulses

torch.set_num_threads(1)


def digits() -> Any:
    return tasks.load("digits", "digits_resnet")


@pytest.fixture(scope="module")
def prunable() -> Prunable:
    return analyse(digits())


def batches(count: int = 4) -> list[Split]:
    split = digits().calibration(count * 64)
    return [Split(split.inputs[i : i + 64], split.targets[i : i + 64]) for i in range(0, count * 64, 64)]


def zeroed_half(prunable: Prunable, network: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    old = {g.name + "": network.get_submodule(g.name).weight.detach().clone() for g in prunable.groups}  # type: ignore[operator]
    gone = {g.name: torch.arange(g.size) % 2 == 0 for g in prunable.groups}
    for group in prunable.groups:
        allocation.zero(network, group, gone[group.name])
    return gone, old


def test_the_trap_of_batchnorm(prunable: Prunable) -> None:
    """In train mode a zero filter has no variance: its gradient is multiplied by γ/√ε; in eval mode it is like the others."""
    network = digits().reference()
    gone, old = zeroed_half(prunable, network)
    everything = {name: torch.ones_like(mask) for name, mask in gone.items()}
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def ratio(train_mode: bool) -> float:
        found = pulses(network, prunable.groups, everything, old, digits(), batches(), "raw", train_mode)
        means = [torch.cat([found[n][gone[n] == zero] for n in gone]).mean() for zero in (True, False)]
        return float(means[0] / means[1])

    assert ratio(True) > 10
    assert 0.1 < ratio(False) < 10
    for name, tensor in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, state[name]), name
    assert not network.training


@pytest.mark.parametrize("statistic", ["gate", "taylor"])
def test_pulses_are_derivatives_of_the_loss(prunable: Prunable, statistic: Any) -> None:
    """Against a finite difference: a little of one old filter (or of its gate) is given back."""
    network, task = digits().reference().double(), digits()
    gone, old = zeroed_half(prunable, network)
    image_batches = [Split(b.inputs, b.targets) for b in batches(2)]

    class Double(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._modules = network._modules
            self.eval()

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = type(network).forward(network, x.double())
            return found

    found = pulses(Double(), prunable.groups, gone, old, task, image_batches, statistic)
    group, channel, step = prunable.groups[2], 4, 1e-5
    assert gone[group.name][channel]

    @torch.no_grad()
    def loss(amount: float) -> float:
        conv, hooks = network.get_submodule(group.name), []
        if statistic == "taylor":
            conv.weight[channel] = amount * old[group.name][channel]  # type: ignore[operator,index]
        else:  # all gates are closed, in front of old filters
            for g in prunable.groups:
                network.get_submodule(g.name).weight.copy_(old[g.name])  # type: ignore[operator]
                gate = (~gone[g.name]).double()
                if g is group:
                    gate[channel] = amount
                reads = network.get_submodule(g.name.replace("conv1", "conv2"))
                shaped = gate.view(1, -1, 1, 1)
                hooks.append(reads.register_forward_pre_hook(lambda _m, x, shaped=shaped: x[0] * shaped))
        total = sum(
            float(task.loss(network(task.prepare(split.inputs).double()), split.targets)) for split in image_batches
        )
        for hook in hooks:
            hook.remove()
        for g in prunable.groups:
            allocation.zero(network, g, gone[g.name])
        return total / len(image_batches)

    slope = abs(loss(step) - loss(-step)) / (2 * step)
    assert float(found[group.name][channel]) == pytest.approx(slope, rel=1e-2, abs=1e-6)
    assert not found[group.name][~gone[group.name]].any()
