"""The training loop: it learns, resumes to the bit, keeps pruned weights at zero and touches no global state."""

from __future__ import annotations

import copy
import math
import os
import pickle
import re
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_runner
import torch
from test_runner import Laboratory, wait_until
from torch import nn

from benchmarks import networks, seeds, tasks
from benchmarks.errors import MethodError, StaleCheckpoint, TaskError
from benchmarks.evaluation.scoring import total_score
from benchmarks.running.lent import CellRun
from benchmarks.running.state import state
from benchmarks.training import SGD, AdamW, Callback, Cosine, Multistep, Recipe, fit, loop
from benchmarks.training.augmentation import augment
from benchmarks.training.batchnorm import reestimate
from methods.interface import Augmentation, Budget, Task

laboratory = test_runner.laboratory


class Bench:
    """A run that keeps its checkpoints in memory; it can be made to stop after some epochs, as a kill would."""

    seed, device, budget = 0, torch.device("cpu"), Budget("paper", None)

    def __init__(self, stop_after: int | None = None) -> None:
        self.saved: dict[str, dict[str, Any]] = {}
        self.said: list[str] = []
        self.stop_after = stop_after

    def generator(self, *names: str | int) -> torch.Generator:
        return seeds.generator(self.seed, *names)

    def checkpoint(self, stage: str, state: Mapping[str, Any]) -> None:
        self.saved[stage] = copy.deepcopy(dict(state))
        if state["epochs"] == self.stop_after:
            raise KeyboardInterrupt

    def restore(self, stage: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.saved.get(stage))

    def progress(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(scope="module")
def task() -> Task:
    return tasks.load("digits", "digits_cnn")


def untrained(seed: int = 1) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return networks.build("digits_cnn", {"width": 8})


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("bf16", [False, True])
def test_one_epoch_learns(task: Task, bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "bf16_is_fast", lambda device: bf16)
    network = untrained()
    before = total_score(network, task.validation, task)
    fit(network, task, Bench(), Recipe(1, 0.05, batch=16), "stage")
    assert before < 40 and total_score(network, task.validation, task) > 80  # of 200, 20 by chance
    assert not network.training


@pytest.mark.parametrize("optimiser", [SGD(), AdamW()])
@pytest.mark.parametrize("stop_after", [1, 2])
def test_an_interrupted_training_goes_on_to_the_same_bits(task: Task, optimiser: Any, stop_after: int) -> None:
    recipe = Recipe(2.5, 0.01, optimiser=optimiser)
    whole, resumed = untrained(), untrained()
    fit(whole, task, Bench(), recipe, "stage")
    run = Bench(stop_after)
    with pytest.raises(KeyboardInterrupt):
        fit(resumed, task, run, recipe, "stage")
    resumed, run.said = untrained(seed=2), []
    fit(resumed, task, run, recipe, "stage")
    assert [line.split(",")[0] for line in run.said] == [f"stage: epoch {n}/3" for n in range(stop_after + 1, 4)]
    assert same(whole, resumed)
    run.said = []
    again = untrained(seed=3)
    fit(again, task, run, recipe, "stage")
    assert same(whole, again) and not run.said


def test_dropout_is_resumed_to_the_same_bits_and_leaves_torchs_own_numbers_alone(task: Task) -> None:
    def dropping() -> nn.Module:
        return nn.Sequential(nn.Dropout(0.5), untrained())

    recipe, whole, resumed, run = Recipe(2, 0.01), dropping(), dropping(), Bench(1)
    before = torch.get_rng_state()
    fit(whole, task, Bench(), recipe, "stage")
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(KeyboardInterrupt):
        fit(resumed, task, run, recipe, "stage")
    torch.rand(7)
    fit(resumed, task, run, recipe, "stage")
    assert same(whole, resumed)


def test_stages_and_seeds_see_different_images(task: Task) -> None:
    def trained(stage: str, seed: int) -> nn.Module:
        network, run = untrained(), Bench()
        run.seed = seed
        fit(network, task, run, Recipe(0.2, 0.05), stage)
        return network

    first = trained("a", 0)
    assert same(first, trained("a", 0))
    assert not same(first, trained("b", 0)) and not same(first, trained("a", 1))


@pytest.mark.parametrize("optimiser", [SGD(weight_decay=0.1), AdamW(weight_decay=0.1)])
def test_pruned_weights_stay_exactly_zero_under_momentum_and_weight_decay(task: Task, optimiser: Any) -> None:
    network, run = untrained(), Bench(stop_after=1)
    masks = {name: torch.rand_like(p) > 0.5 for name, p in network.named_parameters() if p.ndim > 1}
    recipe = Recipe(2, 0.05, optimiser=optimiser)
    with pytest.raises(KeyboardInterrupt):
        fit(network, task, run, recipe, "stage", masks)
    fit(network, task, run, recipe, "stage", masks)
    for name, parameter in network.named_parameters():
        zero = parameter == 0
        assert torch.equal(zero, ~masks[name]) if name in masks else not zero.any()


class Freezing(Callback):
    """Freezes a layer's weight where it stands at an epoch, and clears the momentum that moves it."""

    def __init__(self, layer: nn.Linear, epoch: int) -> None:
        self.layer, self.epoch, self.calls = layer, epoch, 0
        self.frozen: torch.Tensor | None = None

    def before_epoch(self, epoch: int, optimiser: torch.optim.Optimizer) -> None:
        self.calls += 1
        if epoch == self.epoch:
            optimiser.state[self.layer.weight]["momentum_buffer"].zero_()
            self.frozen = self.layer.weight.detach().clone()

    def after_step(self) -> None:
        if self.frozen is not None:
            self.layer.weight.copy_(self.frozen)

    def state_dict(self) -> dict[str, Any]:
        return {"frozen": self.frozen, "calls": self.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.frozen, self.calls = state["frozen"], state["calls"]


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_callback_changes_a_training_and_is_resumed_with_it(task: Task, stop_after: int) -> None:
    def trained(run: Bench) -> tuple[nn.Module, Freezing]:
        network = untrained()
        (layer,) = (m for m in network.modules() if isinstance(m, nn.Linear))
        callback = Freezing(layer, 1)
        fit(network, task, run, Recipe(3, 0.05), "stage", callback=callback)
        assert torch.equal(layer.weight, callback.frozen)  # type: ignore[arg-type]
        return network, callback

    whole, callback = trained(Bench())
    run = Bench(stop_after)
    with pytest.raises(KeyboardInterrupt):
        trained(run)
    run.stop_after = None
    resumed, again = trained(run)
    assert same(whole, resumed) and callback.calls == again.calls == 3


@pytest.mark.parametrize("decay_norm", [True, False])
@pytest.mark.parametrize("optimiser", [SGD, AdamW])
def test_weight_decay_acts_on_norms_only_if_asked(task: Task, optimiser: Any, decay_norm: bool) -> None:
    weak, strong = untrained(), untrained()
    for network in (weak, strong):
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            nn.init.ones_(norm.bias)  # nothing decays from the zero that it starts at
    for network, decay in ((weak, 0.0), (strong, 1.0)):
        recipe = Recipe(0.01, 1e-3, optimiser=optimiser(weight_decay=decay), decay_norm=decay_norm)
        fit(network, task, Bench(), recipe, "one step")
    norms = {
        f"{path}.{n}" for path, m in weak.named_modules() if isinstance(m, nn.BatchNorm2d) for n in ("weight", "bias")
    }
    equal = {name for name, p in weak.named_parameters() if torch.equal(p, strong.get_parameter(name))}
    assert equal == (set() if decay_norm else norms)


def test_nesterov_momentum_is_another_step(task: Task) -> None:
    plain, nesterov = untrained(), untrained()
    fit(plain, task, Bench(), Recipe(0.2, 0.05), "stage")
    fit(nesterov, task, Bench(), Recipe(0.2, 0.05, optimiser=SGD(nesterov=True)), "stage")
    assert not same(plain, nesterov)


def test_an_epoch_may_be_fractional(task: Task) -> None:
    steps: list[float] = []

    def counted(epoch: float) -> float:
        steps.append(epoch)
        return 0.0

    each = math.ceil(1197 / 128)  # steps of an epoch: 10
    for epochs, expected in ((1.0, each), (2.5, 2 * each + 5), (0.3, 3), (0.01, 1), (0, 0)):
        steps.clear()
        run = Bench()
        fit(untrained(), task, run, Recipe(epochs, 0.1, schedule=counted), "stage")
        assert len(steps) == expected and len(run.said) == math.ceil(epochs)
        assert steps == pytest.approx([step / each for step in range(expected)])


def test_schedules_by_hand() -> None:
    cosine = Cosine(10)
    assert [cosine(e) for e in (0, 2.5, 5, 10, 12)] == pytest.approx([1, 0.5 * (1 + math.sqrt(0.5)), 0.5, 0, 0])
    steps = Multistep((100, 150), gamma=0.1)
    assert [steps(e) for e in (0, 99.99, 100, 149.5, 150, 199)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    warm = Multistep((6, 11), warmup=(1e-3, 1e-2))
    assert [warm(e) for e in (0.5, 1, 2, 7.9, 8, 13)] == pytest.approx([1e-3, 1e-2, 1, 1, 0.1, 0.01])
    late = Cosine(10, warmup=(0.1, 0.2))
    assert [late(e) for e in (0.9, 1.9, 7, 12)] == pytest.approx([0.1, 0.2, cosine(5), 0])
    assert Recipe(10, 0.4).factor(2.5) == cosine(2.5) and Recipe(10, 0.4, schedule=warm).factor(0.5) == 1e-3


def test_a_rate_times_its_factor_is_the_rate_that_records_were_made_with() -> None:
    """To the bit: the cosine of a rate has always been computed in this order."""
    for lr in (0.05, 0.02, 1e-3, 0.07):
        for epoch in (step / 97 for step in range(291)):
            assert lr * Cosine(3.0)(epoch) == lr * 0.5 * (1 + math.cos(math.pi * epoch / 3.0))
            assert lr * Multistep((1, 2.5))(epoch) == lr * 0.1 ** ((epoch >= 1) + (epoch >= 2.5))


def test_recipes_are_plain_values() -> None:
    recipe = Recipe(2, 0.1, optimiser=AdamW(weight_decay=0.0), schedule=Multistep((1,)), augmentation=Augmentation(4))
    assert pickle.loads(pickle.dumps(recipe)) == recipe != replace(recipe, optimiser=AdamW())
    assert "AdamW(weight_decay=0.0)" in repr(recipe)


def test_augmentation_gives_crops_of_the_padded_image_and_their_mirror_images() -> None:
    padding, images = 4, torch.arange(64 * 360).view(64, 3, 12, 10).mul(167).remainder(251).add(1).to(torch.uint8)
    found = augment(images, Augmentation(padding, flip=True), torch.Generator().manual_seed(5))
    assert found.shape == images.shape and found.dtype == torch.uint8
    padded = nn.functional.pad(images, (padding,) * 4)
    seen = set()
    for before, after in zip(padded, found, strict=True):
        crops = {
            (top, left, flipped): before[:, top : top + 12, left : left + 10].flip(2 if flipped else ())
            for top in range(9)
            for left in range(9)
            for flipped in (False, True)
        }
        match = [place for place, crop in crops.items() if torch.equal(crop, after)]
        assert len(match) == 1
        seen.add(match[0])
    assert len(seen) > 40 and {flipped for *_, flipped in seen} == {False, True}
    assert {top for top, *_ in seen} == {left for _, left, _ in seen} == set(range(9))
    assert torch.equal(augment(images, Augmentation(), torch.Generator()), images)


def test_divergence_is_a_sentence(task: Task) -> None:
    with pytest.raises(
        MethodError,
        match=r"training 'stage' diverged in epoch \d: the loss is .*; train with a lower learning rate, if",
    ):
        fit(untrained(), task, Bench(), Recipe(4, 1e12), "stage")


def test_training_and_reestimation_leave_global_random_numbers_alone(task: Task) -> None:
    before = torch.get_rng_state()
    network = task.reference()
    fit(network, task, Bench(), Recipe(0.2, 0.01), "stage")
    reestimate(network, task, 50)
    assert torch.equal(torch.get_rng_state(), before)


def test_reestimation_changes_statistics_and_nothing_else(task: Task) -> None:
    network = task.reference()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    momenta = [m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    reestimate(network, task, 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    reestimate(network, task, 300)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed >= {f"{n}.{s}" for n in (1, 4, 8) for s in ("running_mean", "running_var")}
    assert all("running_" in name or "num_batches" in name for name in changed)
    assert [m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)] == momenta
    assert not network.training and total_score(network, task.validation, task) > 180
    once, twice = task.reference(), task.reference()
    reestimate(once, task, 300)
    reestimate(twice, task, 300)
    assert same(once, twice)


def test_an_interrupted_command_resumes_from_its_last_epoch(laboratory: Laboratory, tmp_path: Path) -> None:
    laboratory.configure({"points": 1, "epochs": 5})
    laboratory.run(tmp_path / "uninterrupted")
    with laboratory.start("run", "digits", trouble="slow") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "epoch 3/5" in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint == "interrupted: finished records are kept; run the same command again to continue\n"
    assert not laboratory.files("*") and list(laboratory.results.glob(".work/*/*.pt"))
    outcomes, said = laboratory.run()
    epochs = [int(found[1]) for line in said if (found := re.search(r"epoch (\d)/5", line))]
    assert outcomes == ["complete"] and epochs in ([3, 4, 5], [4, 5])
    assert laboratory.files("p*.rbn") == laboratory.files("p*.rbn", tmp_path / "uninterrupted")
    assert not list(laboratory.results.glob(".work/*/*.pt"))


def test_a_run_that_is_killed_three_times_ends_with_the_same_files(laboratory: Laboratory, tmp_path: Path) -> None:
    """SIGKILL after the first checkpoint, after the first record and after the third, whatever it is at by then."""
    suite = {"task": "digits", "networks": ["digits_cnn"], "methods": ["magnitude"], "seeds": [0], "budgets": ["short"]}
    laboratory.configure(digits=suite, budgets={"short": {"epochs": 2.0}})
    command = ["run", "digits", "-b", "short"]
    with laboratory.start(*command, "--results", str(tmp_path / "whole")) as process:
        process.communicate(timeout=600)
    for pattern in (".work/*/*.pt", "digits/*/*/*/p00.json", "digits/*/*/*/p02.json"):
        with laboratory.start(*command) as process:
            wait_until(lambda pattern=pattern: any(laboratory.results.glob(pattern)), process)  # type: ignore[misc]
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=60)
    with laboratory.start(*command) as process:
        process.communicate(timeout=600)
    assert process.returncode == 0
    whole = laboratory.files("p*.rbn", tmp_path / "whole")
    assert len(whole) == 5 and laboratory.files("p*.rbn") == whole
    assert not any((laboratory.results / ".work").glob("*/"))


def test_a_stale_checkpoint_is_refused_until_fresh(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    laboratory.configure({"epochs": 1})
    laboratory.patch.setenv("TINY", "fail")
    laboratory.run()
    source = laboratory.folder / "packages" / "tiny.py"
    source.write_text(source.read_text() + "\nCHANGED = True\n")
    laboratory.forget()
    laboratory.patch.delenv("TINY")
    assert laboratory.ratebench("run", "digits") == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "the checkpoint of 'train' was saved before a change to the code, so it can't be used" in text
    assert "run with --fresh to start this cell over" in text
    assert laboratory.ratebench("run", "digits", "--fresh") == 0
    assert state(laboratory.cells()[0], laboratory.results)


def test_every_change_that_makes_a_checkpoint_stale_is_named(laboratory: Laboratory, tmp_path: Path) -> None:
    cell = laboratory.cells()[0]
    saving = CellRun(cell, tmp_path / "work", torch.device("cpu"), print)
    assert saving.restore("stage") is None
    saving.checkpoint("stage", {"epochs": 1, "weights": torch.ones(2), "order": [1, "two", None]})
    found = saving.restore("stage")
    assert (
        found and torch.equal(found.pop("weights"), torch.ones(2)) and found == {"epochs": 1, "order": [1, "two", None]}
    )
    for changes, name in (
        ({"seed": 1}, "the seed"),
        ({"config": {"points": 2, "epochs": 0}}, "the configuration"),
        ({"budget": Budget("short", 2.5)}, "the budget"),
    ):
        other = CellRun(replace(cell, **changes), tmp_path / "work", torch.device("cpu"), print)
        with pytest.raises(StaleCheckpoint, match=f"before a change to {name}, so"):
            other.restore("stage")
    for file in (tmp_path / "work").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(TaskError, match="can't read"):
        saving.restore("stage")
