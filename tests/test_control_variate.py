"""BatchNorm statistics after compression: the uncompressed network on the same items tells what is peculiar to these."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from test_every_method import MemoryRun
from torch import Tensor, nn

import methods
from benchmarks import bitstream, tasks
from benchmarks.training import control_variate
from benchmarks.training.batchnorm import affine, foldable, reestimate
from methods.interface import Augmentation, Budget, Split


def statistics_of(network: nn.Module) -> list[Tensor]:
    return [t.clone() for m in network.modules() if foldable(m) for t in (m.running_mean, m.running_var)]


def test_control_variates_leave_an_unchanged_network_as_it_is() -> None:
    task = tasks.load("digits", "digits_resnet")
    network, known = task.reference(), control_variate.control(task.reference(), task, 200)
    control_variate.correct(network, task, 200, known)
    for found, stored in zip(statistics_of(network), statistics_of(task.reference()), strict=True):
        torch.testing.assert_close(found, stored, rtol=1e-4, atol=1e-5)


def test_looking_leaves_a_network_as_it_is() -> None:
    task = tasks.load("digits", "digits_resnet")
    network = task.reference()
    known = control_variate.control(network, task, 50)
    assert all(torch.equal(a, b) for a, b in zip(network.buffers(), task.reference().buffers(), strict=True))
    assert any(not torch.equal(known.stored[path][0], mean) for path, (mean, _) in known.measured.items())


def test_control_variates_follow_what_changed() -> None:
    """A convolution with 1.9 times the weights: 1.9 times the mean, 3.6 times the variance, the same function."""
    task = tasks.load("digits", "digits_cnn")
    network, known = task.reference(), control_variate.control(task.reference(), task, 200)
    with torch.no_grad():
        network.get_parameter("3.weight").mul_(1.9)
    control_variate.correct(network, task, 200, known)
    inputs = task.prepare(task.calibration(50).inputs)
    with torch.no_grad():
        torch.testing.assert_close(network(inputs), task.reference()(inputs), rtol=1e-2, atol=1e-2)


def test_a_channel_without_weights_is_constant_afterwards() -> None:
    """BatchNorm's output is then its shift β, whatever the images tell about the reference."""
    task = tasks.load("digits", "digits_cnn")
    network, known = task.reference(), control_variate.control(task.reference(), task, 200)
    with torch.no_grad():
        network.get_parameter("7.weight")[3] = 0
    control_variate.correct(network, task, 200, known)
    norm: Any = network.get_submodule("8")
    assert affine(norm)[1][3].item() == pytest.approx(norm.bias[3].item(), abs=1e-3)


def test_every_batchnorm_is_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one without γ and β, and one over vectors."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(144, 5), nn.BatchNorm1d(5)
    )
    task = tasks.load("digits", "digits_cnn")
    monkeypatch.setattr(type(task), "reference", lambda self: copy.deepcopy(network).eval())
    for path, (mean, variance) in control_variate.control(task.reference(), task, 100).measured.items():
        norm: Any = network.get_submodule(path)
        norm.running_mean.copy_(mean + 0.1), norm.running_var.copy_(9 * variance)
    changed = copy.deepcopy(network)
    control_variate.correct(changed, task, 200, control_variate.control(task.reference(), task, 200))
    for found, stored in zip(changed.buffers(), network.buffers(), strict=True):
        if found.is_floating_point():  # no count of batches
            torch.testing.assert_close(found, stored, rtol=1e-4, atol=1e-4)


def test_what_is_peculiar_to_the_items_is_scaled_with_the_variance() -> None:
    """v' = v · v_now / v_then, but a variance that was nearly zero adds at most 4 (v − v_then)."""
    network = nn.BatchNorm2d(3)
    then = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([2.0, 2.0, 0.01])
    stored = torch.tensor([1.5, 1.5, 1.5]), torch.tensor([3.0, 3.0, 0.03])
    known = control_variate.Control({"": stored}, {"": then})
    task: Any = Given(torch.tensor([1.2, 0.6, 1.2]), torch.tensor([4.0, 0.5, 1.0]))
    control_variate.correct(network, task, 500, known)
    torch.testing.assert_close(network.running_mean, torch.tensor([1.2 + 0.5**0.5, 0.85, 2.2]), rtol=0, atol=1e-3)
    torch.testing.assert_close(network.running_var, torch.tensor([6.0, 0.75, 1.08]), rtol=0, atol=1e-3)


class Given:
    """A task whose calibration items have exactly these means and variances by channel."""

    augmentation = Augmentation()

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        noise = torch.randn(250, len(mean), 2, 2, generator=torch.Generator().manual_seed(0)).double()
        noise -= noise.mean((0, 2, 3), keepdim=True)
        noise /= noise.var((0, 2, 3), keepdim=True).sqrt()
        self.items = (noise * variance.view(1, -1, 1, 1).sqrt() + mean.view(1, -1, 1, 1)).float().repeat(2, 1, 1, 1)

    def calibration(self, n: int) -> Any:
        return Split(self.items[:n], torch.zeros(n))

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs


GENTLE: dict[str, dict[str, Any]] = {  # settings with which the first layer hardly changes, but may lose channels
    "l1_filter": {"targets": (0.3,)},
    "magnitude": {"sparsities": (0.0,)},
    "rvq": {"points": ((16, 256),)},
    "rdoq": {"steps": (0.001,), "items": 10},
    "surp": {"mode": "rounds", "sparsities": (0.01,)},
    "svd": {"rates": (1.5,)},
    "uniform": {"steps": (0.001,)},
}


@pytest.mark.parametrize("key", GENTLE)
def test_what_a_method_leaves_keeps_its_statistics(key: str) -> None:
    """The BatchNorm after the first layer does what it did; plain re-estimation on as many items moves it by 3 %."""
    task = tasks.load("digits", "digits_cnn" if key != "svd" else "digits_resnet")
    kind = methods.get(key).Config
    config = kind(**({} if key == "rdoq" else {"recalibrate": 10}), **GENTLE[key])
    (point,) = methods.get(key).compress(task, config, MemoryRun(Budget("post-training", 0.0)))
    decoded, reference = bitstream.decode(bitstream.encode(point)), task.reference()
    first = next(path for path, module in reference.named_modules() if foldable(module))
    (scale, shift), (wanted, wanted_shift) = (affine(n.get_submodule(first)) for n in (decoded, reference))
    reestimate(reference, task, 10)
    plain = affine(reference.get_submodule(first))[0]
    assert float((plain / wanted - 1).abs().max()) > 0.03
    near = (scale[:, None] - wanted).abs().argmin(1)  # of a kept channel
    torch.testing.assert_close(scale, wanted[near], rtol=0.01, atol=0)
    torch.testing.assert_close(shift, wanted_shift[near], rtol=0, atol=0.01)
