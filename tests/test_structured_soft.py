"""Soft training: what is removed stays removed, steps are known, and a kill costs nothing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import test_every_method
import torch
from torch import Tensor, nn

from benchmarks import bitstream, tasks
from benchmarks.training import Callback, Recipe
from methods import psap
from methods.baselines import fpgm, sfp
from methods.families.structured import Keep, Prunable, allocation, analyse, soft
from methods.families.structured.channels import Where
from methods.families.structured.soft import Soft, soft_recipe, train_softly
from methods.interface import Budget, Split

torch.set_num_threads(1)


@pytest.mark.parametrize("where", ["inner", "branches"])
def test_soft_training_leaves_removed_channels_removed(where: Where) -> None:
    """With their BatchNorm: behind a branch nothing else stops its shift from growing."""
    task = tasks.load("digits", "digits_resnet")
    prunable = analyse(task, where)
    keep = {group.name: torch.arange(group.size) % 2 == 0 for group in prunable.groups}
    dense = prunable.widen(*prunable.narrow(task.reference(), keep))
    run = test_every_method.MemoryRun(Budget("short", 6.0))
    train_softly(dense, prunable, keep, run, Recipe(1.0, 0.1), "soft", Soft(dense, prunable, lambda _: keep, 1000))
    for group in prunable.groups:
        for member in group.side("out", "norm", "scatter"):
            for parameter in dense.get_submodule(member.path).parameters():
                assert not parameter[member.entries[~keep[group.name][member.channels]]].any()
                assert parameter[member.entries[keep[group.name][member.channels]]].any()


def test_masks_hold_what_writes_removed_channels_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters, too: without BatchNorm, nothing else keeps them at zero."""
    given: dict[str, Tensor] = {}
    monkeypatch.setattr(soft, "fit", lambda *arguments: given.update(arguments[5]))
    task = tasks.load("digits", "digits_resnet")
    prunable = analyse(task)
    keep = prunable.all_kept()
    group = prunable.groups[1]
    keep[group.name] = torch.arange(group.size) % 2 == 0
    run = test_every_method.MemoryRun(Budget("short", 6.0))
    train_softly(task.reference(), prunable, keep, run, Recipe(1.0, 0.1), "soft", Callback())
    (norm,) = group.side("norm")
    assert given.keys() == {f"{group.name}.weight", f"{norm.path}.weight", f"{norm.path}.bias"}
    assert all(torch.equal(mask.flatten(), keep[group.name]) for mask in given.values())


@pytest.mark.parametrize(("epochs", "steps", "every"), [(1.0, 10, 3), (0.25, 2, 1), (2.5, 25, 8), (100.0, 1000, 10)])
def test_soft_training_knows_its_steps(epochs: float, steps: int, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten steps an epoch; at least three prunings."""
    monkeypatch.setattr(soft, "SOFT", 1.0)
    train = Split(torch.zeros(1280, 1, 8, 8, dtype=torch.uint8), torch.zeros(1280, dtype=torch.int64))
    task: Any = SimpleNamespace(train=train)
    run = test_every_method.MemoryRun(Budget("short", epochs))
    recipe, found, between = soft_recipe(task, sfp.Config(targets=(0.5,), prunings=3), run)
    assert (recipe.epochs, found, between) == (epochs, steps, every)


@pytest.mark.parametrize("epochs", [0.3, 2.0, 2.5])
def test_training_takes_the_steps_that_are_known_beforehand(epochs: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft, "SOFT", 1.0)
    task = tasks.load("digits", "digits_resnet")
    run = test_every_method.MemoryRun(Budget("short", epochs))
    recipe, steps, _ = soft_recipe(task, sfp.Config(targets=(0.5,)), run)
    prunable, dense = analyse(task), task.reference()
    counted = Soft(dense, prunable, lambda _: prunable.all_kept(), 10**6)
    train_softly(dense, prunable, prunable.all_kept(), run, recipe, "soft", counted)
    assert counted.state_dict()["step"] == steps


def test_what_the_last_pruning_kept_is_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that follow it let zeros grow; a choice after them would be another one."""
    removed = {}
    monkeypatch.setattr(soft, "zero", lambda network, group, mask: removed.update({group.name: mask}))
    task, config = tasks.load("digits", "digits_resnet"), sfp.Config(prunings=3, targets=(0.4,))
    run = test_every_method.MemoryRun(Budget("short", 2.0))
    _, steps, every = soft_recipe(task, config, run)
    assert steps % every
    prunable = analyse(task)

    turn = itertools.count()

    def choose(network: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> dict[str, Tensor]:
        """Another choice each time."""
        by = next(turn)
        return allocation.same_share(prunable, keep, goal, lambda group: torch.arange(group.size).roll(by))

    start = (prunable, prunable.all_kept(), prunable.goal(0.4))
    kept, _ = soft.softly(task, config, run, choose)(task.reference(), *start)
    assert all(torch.equal(kept[name], ~mask) for name, mask in removed.items())
    later = choose(task.reference(), *start)
    assert not all(torch.equal(kept[name], later[name]) for name in kept)


@pytest.mark.parametrize("method", [sfp, psap, fpgm])
def test_a_run_that_is_killed_while_it_trains_goes_on_to_the_same_bytes(method: Any) -> None:
    """Stopped after its second checkpoint, in the middle of soft training, and begun again from what was saved."""

    class Killed(test_every_method.MemoryRun):
        left = 2

        def checkpoint(self, stage: str, state: Mapping[str, Any]) -> None:
            super().checkpoint(stage, state)
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    task, config = tasks.load("digits", "digits_resnet"), method.Config(targets=(0.4,), prunings=8)
    budget = Budget("short", 6.0)
    whole = [bitstream.encode(p) for p in method.compress(task, config, test_every_method.MemoryRun(budget))]
    killed = Killed(budget)
    with pytest.raises(KeyboardInterrupt):
        list(method.compress(task, config, killed))
    again = test_every_method.MemoryRun(budget, saved=killed.saved)
    assert [bitstream.encode(p) for p in method.compress(task, config, again)] == whole
