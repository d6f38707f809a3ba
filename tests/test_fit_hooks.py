"""Parameter groups with rates of their own, callbacks, optimisers and schedules as callables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_every_method
import torch
from places import TESTS, python_path
from torch import Tensor, nn

from benchmarks import networks, storage, tasks
from benchmarks.errors import MethodError
from benchmarks.training import SGD, Callback, Multistep, Recipe, fit, processes
from methods.interface import Augmentation, Task

STEPS = 10  # of an epoch: 1197 images


class Stopped(test_every_method.MemoryRun):
    """A run that is interrupted after some epochs of a training."""

    def __init__(self, epochs: int | None = None) -> None:
        super().__init__(test_every_method.SHORT)
        self.epochs = epochs

    def checkpoint(self, stage: str, state: Mapping[str, Any]) -> None:
        super().checkpoint(stage, state)
        if state["epochs"] == self.epochs:
            raise KeyboardInterrupt


class OnDisk(test_every_method.MemoryRun):
    """A run whose checkpoints are files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(test_every_method.SHORT)
        self.folder = folder

    def checkpoint(self, stage: str, state: Mapping[str, Any]) -> None:
        storage.save_tensors(self.folder / f"{stage}.pt", state)

    def restore(self, stage: str) -> dict[str, Any] | None:
        path = self.folder / f"{stage}.pt"
        return storage.load_tensors(path) if path.exists() else None


class Rates(Callback):
    """Keeps the rates of all groups at every step, and the gradients of the last."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.rates: list[list[float]] = []

    def before_step(self, optimiser: torch.optim.Optimizer) -> None:
        self.rates.append([group["lr"] for group in optimiser.param_groups])
        self.gradients = {n: p.grad.clone() for n, p in self.network.named_parameters() if p.grad is not None}


class Hooked(Callback):
    """A loss term, gradients clipped by their norm, and a freeze that moves from the convolutions to the rest and back.

    Three steps each, so that an epoch of ten ends within one of them. With `kill_at`, the process is killed before it
    takes that step.
    """

    def __init__(self, network: nn.Module, term: bool = True, hook: bool = True, kill_at: int = 0) -> None:
        self.network, self.term, self.hook, self.kill_at, self.steps = network, term, hook, kill_at, 0

    def loss_term(self, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor | None:
        return 0.1 * outputs.square().mean() if self.term else None

    def before_step(self, optimiser: torch.optim.Optimizer) -> None:
        self.steps += 1
        if self.steps == self.kill_at:
            signal.raise_signal(signal.SIGKILL)
        if not self.hook:
            return
        nn.utils.clip_grad_norm_(self.network.parameters(), 0.2)
        for parameter in self.network.parameters():
            if (parameter.ndim == 4) == bool(self.steps // 3 % 2):
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


@pytest.fixture(scope="module")
def task() -> Task:
    return tasks.load("digits", "digits_cnn")


def untrained() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return networks.build("digits_cnn", {"width": 8})


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def head(network: nn.Module) -> list[nn.Parameter]:
    return [p for m in network.modules() if isinstance(m, nn.Linear) for p in m.parameters()]


def kernels(network: nn.Module) -> list[nn.Parameter]:
    return [p for p in network.parameters() if p.ndim == 4]


def grouped(network: nn.Module) -> list[dict[str, Any]]:
    return [{"params": head(network), "lr": 0.5}, {"params": kernels(network), "lr": 0.01, "weight_decay": 0.1}]


def test_every_group_keeps_its_own_rate_over_a_whole_schedule_and_when_resumed(task: Task) -> None:
    recipe = Recipe(3, 0.05, schedule=Multistep((1,), warmup=(0.2,)))
    factors = [recipe.factor(step / STEPS) for step in range(3 * STEPS)]
    assert sorted(set(factors)) == pytest.approx([0.1, 0.2, 1])
    whole, expected = watched(task, Stopped(), recipe)
    assert expected == [[0.05 * factor, 0.5 * factor, 0.01 * factor] for factor in factors]
    run = Stopped(2)
    with pytest.raises(KeyboardInterrupt):
        watched(task, run, recipe)
    resumed, rates = watched(task, run, recipe)
    assert rates == expected[2 * STEPS :] and same(whole, resumed)


def watched(task: Task, run: Any, recipe: Recipe) -> tuple[nn.Module, list[list[float]]]:
    """A network that was trained in groups, and the rates of its groups at every step."""
    network = untrained()
    callback = Rates(network)
    fit(network, task, run, recipe, "stage", callback=callback, groups=grouped(network))
    return network, callback.rates


def test_parameters_move_by_the_rate_and_the_weight_decay_of_their_group(task: Task) -> None:
    """One step without momentum, by hand; what is in no group and no norm decays as the recipe says, norms do not."""
    network, before = untrained(), untrained()
    callback, groups = Rates(network), grouped(network)
    recipe = Recipe(0.1, 0.05, optimiser=SGD(momentum=0.0, weight_decay=0.2), decay_norm=False)
    fit(network, task, Stopped(), recipe, "stage", callback=callback, groups=groups)
    assert callback.rates == [[0.05, 0.5, 0.01]]
    for name, parameter in network.named_parameters():
        start = before.get_parameter(name).detach()
        is_norm = isinstance(network.get_submodule(name.rpartition(".")[0]), nn.BatchNorm2d)
        rate, decay = (0.05, 0.0) if is_norm else (0.01, 0.1) if parameter.ndim == 4 else (0.5, 0.2)
        expected = start - rate * (callback.gradients[name] + decay * start)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("own", [{}, {"weight_decay": 0.3}])
def test_a_norm_in_a_group_decays_only_if_the_group_says_so(task: Task, own: dict[str, float]) -> None:
    """One step without momentum, by hand; a group may be a single tensor, as in torch.optim."""
    network, before = untrained(), untrained()
    callback = Rates(network)
    first = next(path for path, module in network.named_modules() if isinstance(module, nn.BatchNorm2d))
    scale = network.get_parameter(f"{first}.weight")
    groups = [{"params": [*head(network), network.get_parameter(f"{first}.bias")], **own}, {"params": scale, **own}]
    recipe = Recipe(0.1, 0.05, optimiser=SGD(momentum=0.0, weight_decay=0.2), decay_norm=False)
    fit(network, task, Stopped(), recipe, "stage", callback=callback, groups=groups)
    for name, decay in (
        (f"{first}.weight", own.get("weight_decay", 0.0)),
        ("12.weight", own.get("weight_decay", 0.2)),
    ):
        start = before.get_parameter(name).detach()
        expected = start - 0.05 * (callback.gradients[name] + decay * start)
        torch.testing.assert_close(network.get_parameter(name).detach(), expected, rtol=1e-5, atol=1e-7)


def test_groups_at_the_recipes_own_rate_change_nothing(task: Task) -> None:
    network, plain = untrained(), untrained()
    fit(plain, task, Stopped(), Recipe(0.5, 0.05), "stage")
    fit(network, task, Stopped(), Recipe(0.5, 0.05), "stage", groups=[{"params": (p for p in head(network))}])
    assert same(network, plain)


def test_a_mask_of_no_parameter_is_refused_in_a_sentence(task: Task) -> None:
    sentence = "training 'stage': there are masks for nope, but the network has no such parameters"
    with pytest.raises(MethodError, match=sentence):
        fit(untrained(), task, Stopped(), Recipe(0.5, 0.05), "stage", masks={"nope": torch.ones(1).bool()})


def test_a_parameter_in_two_groups_or_in_no_network_is_refused_in_a_sentence(task: Task) -> None:
    network = untrained()
    name = next(name for name, p in network.named_parameters() if p is head(network)[0])
    for groups, expected in (
        (
            [{"params": head(network), "lr": 0.1}, {"params": head(network)[:1], "lr": 0.2}],
            f"training 'stage': parameter '{name}' is in two groups: remove it from one",
        ),
        ([{"lr": 0.1}], "training 'stage': a group has no 'params'"),
        (
            [{"params": head(network), "learning_rate": 0.1}],
            "training 'stage': a group has 'learning_rate', which is not a setting of SGD",
        ),
        (
            [{"params": head(untrained()), "lr": 0.1}],
            "training 'stage': a group has a parameter that is not the network's: use network.parameters()",
        ),
    ):
        with pytest.raises(MethodError) as refused:
            fit(network, task, Stopped(), Recipe(0.1, 0.05), "stage", groups=groups)
        assert str(refused.value) == expected
    assert same(network, untrained())


def trained(task: Task, run: Any, **changes: Any) -> nn.Module:
    network = untrained()
    callback = Hooked(network, **changes)
    fit(network, task, run, Recipe(2.5, 0.05), "stage", callback=callback, groups=grouped(network))
    return network


def test_a_loss_term_and_a_hook_before_the_step_both_change_a_training(task: Task) -> None:
    made = [trained(task, Stopped(), term=term, hook=hook) for term in (False, True) for hook in (False, True)]
    assert not any(same(a, b) for i, a in enumerate(made) for b in made[:i])
    plain = untrained()
    fit(plain, task, Stopped(), Recipe(2.5, 0.05), "stage", groups=grouped(plain))
    assert same(made[0], plain)


@pytest.mark.parametrize("epochs", [1, 2])
def test_hooks_are_resumed_to_the_same_bits(task: Task, epochs: int) -> None:
    run = Stopped(epochs)
    with pytest.raises(KeyboardInterrupt):
        trained(task, run)
    assert same(trained(task, run), trained(task, Stopped()))


def test_hooks_are_resumed_to_the_same_bits_after_a_kill(task: Task, tmp_path: Path) -> None:
    """SIGKILL in another process, in the second epoch, between a backward pass and its step."""
    code = "import sys, test_fit_hooks; test_fit_hooks.in_another_process(sys.argv[1], int(sys.argv[2]))"
    environment = os.environ | {"PYTHONPATH": python_path(TESTS.parent, TESTS), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(tmp_path), str(STEPS + 4)]
    assert subprocess.run(command, env=environment, timeout=120, check=False).returncode == -signal.SIGKILL
    assert storage.load_tensors(tmp_path / "stage.pt")["callback"]["steps"] == STEPS
    run = OnDisk(tmp_path)
    torch.set_num_threads(1)  # as there: numba's parallel loops, which other tests run, set the number of threads
    assert same(trained(task, run), trained(task, Stopped()))
    assert [line.split(",")[0] for line in run.messages] == ["stage: epoch 2/3", "stage: epoch 3/3"]


def in_another_process(folder: str, kill_at: int) -> None:
    torch.set_num_threads(1)
    trained(tasks.load("digits", "digits_cnn"), OnDisk(Path(folder)), kill_at=kill_at)


class Ordered(Callback):
    """Keeps what was called, in order, and looks at what it may rely on."""

    def __init__(self, network: nn.Module, pruned: nn.Parameter) -> None:
        self.network, self.pruned = network, pruned
        self.calls: list[str] = []
        self.sizes: list[int] = []

    def before_epoch(self, epoch: int, optimiser: torch.optim.Optimizer) -> None:
        self.calls.append(f"epoch {epoch}")

    def loss_term(self, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor | None:
        self.calls.append("term")
        assert len(inputs) == len(outputs) == len(targets)
        assert inputs.dtype == outputs.dtype == torch.float32 and float(inputs.min()) < 0  # normalised
        self.sizes.append(len(inputs))
        return None

    def before_step(self, optimiser: torch.optim.Optimizer) -> None:
        self.calls.append("before")
        assert not torch.is_grad_enabled() and all(p.grad is not None for p in self.network.parameters())
        self.start = self.pruned.clone()

    def after_step(self) -> None:
        self.calls.append("after")
        assert not torch.is_grad_enabled() and not self.pruned[0].any() and not torch.equal(self.pruned, self.start)


def test_hooks_are_called_in_order(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 500, 500 and 197 images; at most 200 at a time. The mask is applied before `after_step`."""
    monkeypatch.setenv(processes.MICRO, "200")
    network = untrained()
    name, pruned = next((name, p) for name, p in network.named_parameters() if p.ndim == 4)
    mask = torch.ones_like(pruned, dtype=torch.bool)
    mask[0] = False
    callback = Ordered(network, pruned)
    fit(network, task, Stopped(), Recipe(2, 0.05, batch=500), "stage", {name: mask}, callback)
    epoch = ["term"] * 3 + ["before", "after"] + ["term"] * 3 + ["before", "after", "term", "before", "after"]
    assert callback.calls == ["epoch 0", *epoch, "epoch 1", *epoch]
    assert callback.sizes == 2 * [167, 167, 166, 167, 167, 166, 197]


def test_a_hook_that_clears_a_gradient_freezes_the_parameter(task: Task) -> None:
    """Against momentum and weight decay."""

    class Frozen(Callback):
        def before_step(self, optimiser: torch.optim.Optimizer) -> None:
            for parameter in head(network):
                parameter.grad = None

    network = untrained()
    fit(network, task, Stopped(), Recipe(0.5, 0.05), "stage", callback=Frozen())
    assert all(torch.equal(a, b) for a, b in zip(head(network), head(untrained()), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(kernels(network), kernels(untrained()), strict=True))


def test_any_optimiser_and_any_schedule_will_do(task: Task) -> None:
    def rmsprop(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        made.append(torch.optim.RMSprop(groups, alpha=0.9, momentum=0.5))
        return made[-1]

    made: list[torch.optim.Optimizer] = []
    recipe = Recipe(2, 1e-3, optimiser=rmsprop, schedule=lambda epoch: 1 / (1 + epoch))
    whole, rates = watched(task, Stopped(), recipe)
    assert [rate for rate, *_ in rates] == [1e-3 * (1 / (1 + step / STEPS)) for step in range(2 * STEPS)]
    assert all("square_avg" in made[0].state[parameter] for parameter in whole.parameters())
    run = Stopped(1)
    with pytest.raises(KeyboardInterrupt):
        watched(task, run, recipe)
    assert same(watched(task, run, recipe)[0], whole)


def test_the_recipes_augmentation_replaces_the_tasks(task: Task) -> None:
    def made(own: Augmentation, asked: Augmentation | None) -> nn.Module:
        network, customary = untrained(), replace(task, augmentation=own)  # type: ignore[type-var]
        fit(network, customary, Stopped(), Recipe(0.3, 0.05, augmentation=asked), "stage")
        return network

    none, strong = Augmentation(), Augmentation(padding=2, flip=True)
    assert same(made(none, strong), made(strong, None)) and same(made(strong, none), made(none, None))
    assert not same(made(strong, None), made(none, None))
