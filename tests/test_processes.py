"""Several processes under torchrun train one network as one process would, and gradients of pieces add up to the batch's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import test_every_method
import torch
from PIL import Image
from places import TESTS, python_path
from test_runner import InProcess
from torch import nn

import benchmarks.networks
import benchmarks.tasks
from benchmarks import cli, records, registry, tasks
from benchmarks.data.images import Pictures, centred, cropped
from benchmarks.errors import MethodError, RateBenchError
from benchmarks.evaluation import shards
from benchmarks.running import execute, params, plan, recording, schedule
from benchmarks.tasks.kinds.classification import Classification, ClassificationTest
from benchmarks.training import Callback, Recipe, fit, loop, processes
from benchmarks.training.augmentation import augment
from methods.interface import Augmentation, Split

ROOT = Path(__file__).resolve().parent.parent
STEPS, BATCH = 20, 64
# `ratebench` in each of two processes; before these end, each does every job, and all hold the same numbers then.
SCRIPT = """
import json, sys, torch
from torch import distributed
import test_processes
from benchmarks import cli
from benchmarks.training import loop, processes
folder, made_by_all = sys.argv[1:3]
del sys.argv[1:3]
end = processes.end
def jobs():
    assert processes.count() == 2
    loop.bf16_is_fast = lambda device: False
    made = {name: job(folder) for name, job in test_processes.JOBS.items()}
    scored = test_processes.added_up()
    found = [None] * 2
    sums = [t.double().sum().item() for job in made.values() for t in job.values()]
    distributed.all_gather_object(found, [sums, scored])
    assert found[0] == found[1], "processes disagree"
    if processes.rank() == 0:
        torch.save(made, made_by_all)
        with open(made_by_all + ".json", "w") as file:
            json.dump(scored, file)
    end()
processes.end = jobs
cli.main()
"""
SUITE = """
digits: {task: digits, networks: [digits_cnn], methods: [l1_filter, magnitude], seeds: [0], budgets: [post-training, short]}
budgets: {post-training: {epochs: 0}, short: {epochs: 1.0}}
configs:
  post-training: {l1_filter: [{targets: [0.5]}], magnitude: [{sparsities: [0.5, 0.9]}]}
  short: {l1_filter: [{targets: [0.5]}], magnitude: [{rounds: [0.8, 0.9]}]}
"""
Tensors = dict[str, torch.Tensor]


class Counter(Callback):
    """Counts the steps of a training."""

    def __init__(self) -> None:
        self.steps = 0

    def after_step(self) -> None:
        self.steps += 1


class Clipped(Callback):
    """A loss term that is large beside the loss, and gradients clipped to half of what their norm is at first."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.norms: list[float] = []

    def loss_term(self, inputs: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return 10 * ((outputs - inputs.flatten(1).mean(1, keepdim=True)).square().mean(1) * (1 + targets)).mean()

    def before_step(self, optimiser: torch.optim.Optimizer) -> None:
        limit = self.norms[0] / 2 if self.norms else 1e9
        self.norms.append(float(nn.utils.clip_grad_norm_(self.network.parameters(), limit)))


def plain(channels: int, side: int) -> nn.Module:
    """A network without BatchNorm, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(4 * side * side, 10))


def few(images: int) -> Classification:
    """`digits` with so many images for training."""
    task: Any = tasks.load("digits", "digits_cnn")
    split = Split(task.train.inputs[:images], task.train.targets[:images])
    return replace(task, load_splits=lambda: (split, task.validation), load_state=task.reference().state_dict)


def trained(network: nn.Module, task: Classification, callback: Callback | None = None) -> Tensors:
    """The parameters after two epochs of SGD with momentum. BatchNorm's running means are the first process's alone."""
    torch.set_num_threads(1)
    run = test_every_method.MemoryRun(test_every_method.SHORT)
    fit(network, task, run, Recipe(2.0, 0.05, batch=BATCH), "few", callback=callback)
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


def with_batchnorm(_: str) -> Tensors:
    task = few(STEPS * BATCH // 2)  # 10 steps an epoch
    return trained(task.reference(), task)


def without_batchnorm(_: str) -> Tensors:
    return trained(plain(1, 8), few(STEPS * BATCH // 2))


def with_a_callback(_: str) -> Tensors:
    network = plain(1, 8)
    callback = Clipped(network)
    made = trained(network, few(STEPS * BATCH // 2), callback)
    return {**made, "norms": torch.tensor(callback.norms)}


def with_one_image_left(_: str) -> Tensors:
    counter = Counter()
    return {**trained(plain(1, 8), few(BATCH + 1), counter), "steps": torch.tensor(counter.steps)}


def on_pictures(folder: str) -> Tensors:
    """Training on random views of JPEGs in class folders; and how many of them the untrained network labels correctly."""
    classes = [sorted(path.iterdir()) for path in sorted(Path(folder).iterdir())]
    paths, labels = [p for own in classes for p in own], [c for c, own in enumerate(classes) for _ in own]
    images: Any = Pictures(paths * 5, centred(16, 20), cropped(16))
    split = Split(images, torch.tensor(labels * 5))
    colours: Any = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "augmentation": Augmentation(flip=True)}
    task = replace(few(1), load_splits=lambda: (split, split), **colours)
    test = ClassificationTest(task, lambda: split, (3, 16, 16), len(split))
    size, shards.SHARD = shards.SHARD, 1
    own = shards.scored(plain(3, 16), test, processes.rank(), processes.count(), None, "")["top-1"]
    counted = processes.total(torch.tensor([own.total, own.items]))
    shards.SHARD = size
    return {**trained(plain(3, 16), task), "counted": counted}


ALL = (with_batchnorm, without_batchnorm, with_a_callback, with_one_image_left, on_pictures)
JOBS = {job.__name__: job for job in ALL}


def added_up() -> dict[str, Any]:
    """What is recorded of two references: counts over two shards of images, and a mean over a single shard."""
    found: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        for package in (benchmarks.tasks, benchmarks.networks):
            folder = ROOT / "tests" / "other_tasks" / package.__name__.rpartition(".")[2]
            patch.setattr(package, "__path__", [*package.__path__, str(folder)])
        registry.names.cache_clear()
        for name, network in (("digits", "digits_cnn"), ("progression", "mlp")):
            module: Any = tasks.get(name)
            reference, test = tasks.load(name, network).reference(), module.test(network)
            own = shards.scored(reference, test, processes.rank(), processes.count(), None, "")
            measured: Any = SimpleNamespace(scores=execute._added_up(module.METRICS, own))
            cell: Any = SimpleNamespace(task=name)
            found[name] = {
                metric.name: msgspec.to_builtins(recording._score(metric, measured.scores[metric.name]))
                for metric in tasks.get(cell.task).METRICS
            }
        registry.names.cache_clear()
    return found


def torchrun(*command: str, place: Path) -> None:
    """Two processes, one thread each."""
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command],
        env=os.environ | {"PYTHONPATH": python_path(ROOT, TESTS), "OMP_NUM_THREADS": "1"},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small JPEGs of three classes, in odd sizes."""
    made = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for name, number in (("n01", 9), ("n02", 10), ("n03", 8)):
        (made / name).mkdir()
        for i in range(number):
            values = generator.integers(256, size=(24 + i, 33 - i, 3), dtype=np.uint8)
            Image.fromarray(values).save(made / name / f"{i}.JPEG", quality=95)
    return made


@pytest.fixture(scope="module")
def together(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have run the cells of SUITE and every job."""
    place = tmp_path_factory.mktemp("two")
    (place / "params.yaml").write_text(SUITE)
    (place / "script.py").write_text(SCRIPT)
    command = ("run", "digits", "--all-budgets", "--seed", "0", "--results", "two")
    torchrun(str(place / "script.py"), str(folder), str(place / "made.pt"), *command, place=place)
    return place


@pytest.fixture(scope="module")
def theirs(together: Path) -> dict[str, Tensors]:
    """What two processes make of every job."""
    made: dict[str, Tensors] = torch.load(together / "made.pt", weights_only=True)
    return made


@pytest.fixture(autouse=True)
def in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bf16 the gradients of a batch and those of its halves are rounded apart."""
    monkeypatch.setattr(loop, "bf16_is_fast", lambda device: False)


def assert_near(ours: Tensors, theirs: Tensors, start: nn.Module, tolerance: float) -> None:
    """Differences of parameters stay below a share of how far training has moved them."""
    for name, parameter in start.named_parameters():
        moved = float((ours[name] - parameter.detach()).abs().max())
        assert moved > 0 and float((ours[name] - theirs[name]).abs().max()) <= tolerance * moved, name


def test_two_processes_train_as_one_that_cuts_its_batches_in_two(
    theirs: dict[str, Tensors], monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 steps: in both, BatchNorm sees 32 of the 64 images at a time."""
    monkeypatch.setenv(processes.MICRO, str(BATCH // 2))
    assert_near(with_batchnorm(""), theirs["with_batchnorm"], few(1).reference(), 1e-4)


def test_without_batchnorm_two_processes_train_as_one_with_the_doubled_batch(theirs: dict[str, Tensors]) -> None:
    """20 steps: one process has all 64 images at once, two have 32 each."""
    assert_near(without_batchnorm(""), theirs["without_batchnorm"], plain(1, 8), 1e-4)


@pytest.mark.parametrize("micro", ["", "24"])
def test_a_loss_term_and_clipped_gradients_are_those_of_the_whole_batch(
    theirs: dict[str, Tensors], micro: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 steps: one process has all 64 images at once, or 22, 21 and 21; two have 32 each."""
    monkeypatch.setenv(processes.MICRO, micro)
    ours, found = with_a_callback(""), theirs["with_a_callback"]
    assert_near(ours, found, plain(1, 8), 1e-4)
    torch.testing.assert_close(ours["norms"], found["norms"], rtol=1e-4, atol=0)
    assert len(found["norms"]) == STEPS and (found["norms"][1:] > found["norms"][0] / 2).any()  # some were clipped


def test_pictures_are_counted_exactly_and_learned_from_alike(folder: Path, theirs: dict[str, Tensors]) -> None:
    """135 images in three shards, and six steps on random views, the last of an epoch with 7 images."""
    ours = on_pictures(str(folder))
    assert ours["counted"].tolist() == theirs["on_pictures"]["counted"].tolist() and ours["counted"][1] == 135
    assert_near(ours, theirs["on_pictures"], plain(3, 16), 1e-4)


def test_an_image_that_is_left_is_no_batch_of_two_processes(theirs: dict[str, Tensors]) -> None:
    found = theirs["with_one_image_left"]
    assert found["steps"] == 2 and all(tensor.isfinite().all() for tensor in found.values())
    assert with_one_image_left("")["steps"] == 4  # a process alone learns from it


@pytest.mark.parametrize(
    ("count", "images", "steps"), [(1, 65, 2), (2, 65, 1), (2, 66, 2), (3, 130, 2), (3, 131, 3), (64, 128, 2)]
)
def test_every_batch_has_an_image_for_every_process(
    count: int, images: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "count", lambda: count)
    assert processes.steps(images, BATCH) == steps


def test_more_processes_than_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count", lambda: 3)
    for images, batch in ((2, 64), (100, 2)):
        with pytest.raises(MethodError, match="2 items per step can't be split between 3 processes: start fewer"):
            processes.steps(images, batch)


def test_pieces_add_up_to_the_batch_where_no_norm_looks_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.normal_(network[1].weight, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    digits: Any = tasks.load("digits", "digits_cnn")
    states = []
    for micro in ("", "10", "64", "1000"):
        monkeypatch.setenv(processes.MICRO, micro)
        copy = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        copy.load_state_dict(network.state_dict())
        fit(copy, digits, test_every_method.MemoryRun(test_every_method.SHORT), Recipe(1.0, 0.1), "linear")
        states.append(copy.state_dict())
    assert torch.equal(states[0]["1.weight"], states[3]["1.weight"])
    for state in states[1:]:
        torch.testing.assert_close(state["1.weight"], states[0]["1.weight"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rank", "count"), [(0, 2), (1, 2), (2, 3)])
def test_a_share_of_a_batch_gets_the_crops_of_the_whole_batch(rank: int, count: int) -> None:
    how, images = Augmentation(padding=1, flip=True), tasks.load("digits", "digits_cnn").train.inputs[:11]
    whole = augment(images, how, torch.Generator().manual_seed(5))
    own = slice(rank, len(images), count)
    part = augment(images[own], how, torch.Generator().manual_seed(5), len(images), own)
    assert torch.equal(part, whole[own])


def test_two_processes_run_cells_as_one_does(together: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same files and exact counts without training; with it, every point has its record."""
    monkeypatch.chdir(together)
    monkeypatch.setattr(schedule, "Scorer", InProcess)
    params._params.cache_clear()
    ended = list(schedule.run(plan.cells("digits"), Path("one"), print))
    params._params.cache_clear()
    assert [outcome for _, outcome in ended] == ["complete"] * 2
    one, two = (list(records.load(Path(name), "digits")) for name in ("one", "two"))
    trained = [r for r in two if r.budget == "short"]
    two = [r for r in two if r.budget == "post-training"]
    assert [r.method for r in one] == ["l1_filter", "magnitude", "magnitude"]
    for alone, joined in zip(one, two, strict=True):
        assert alone.provenance.artefact_sha256 == joined.provenance.artefact_sha256
        assert alone.metrics == joined.metrics
        beside = [Path(name, f"{alone.id}.items").read_bytes() for name in ("one", "two")]
        assert beside[0] == beside[1] and len(beside[0]) == 50  # a bit for each image, whichever process scored it
        assert joined.provenance.command == f"torchrun --nproc-per-node 2 --no-python {alone.provenance.command}"
    assert [r.method for r in trained] == ["l1_filter", "magnitude", "magnitude"]
    assert all(r.quality.items == 400 for r in trained)
    assert {r.provenance.processes for r in trained} == {2} and {r.provenance.processes for r in one} == {1}
    assert not any(Path("two", ".work").glob("*/"))


def test_a_process_without_a_shard_waits_for_the_others_and_records_the_same(together: Path) -> None:
    """Of two shards, one is scored by each process; of a single one, all by the first."""
    alone = added_up()
    assert alone["digits"]["top-1"]["items"] == 400 and isinstance(alone["digits"]["top-1"]["total"], int)
    assert alone["progression"]["mse"]["items"] == 132 and alone["progression"]["mse"]["total"] % 1
    assert json.loads((together / "made.pt.json").read_text()) == alone


def test_what_all_processes_do_alike_is_left_to_torchrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "begin", lambda: monkeypatch.setattr(processes, "count", lambda: 2))
    for option in ("--jobs=2", "--cluster=auto"):
        monkeypatch.setattr(sys, "argv", ["ratebench", "run", "digits", option])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr().err
        assert end.value.code == 1 and "torchrun starts the processes: leave out --jobs and --cluster" in said


@pytest.mark.parametrize("micro", ["0", "-1", "1.5", "many"])
def test_a_number_of_items_has_to_be_one(micro: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processes.MICRO, micro)
    with pytest.raises(RateBenchError, match=f"RATEBENCH_MICRO is '{micro}': set it to how many items"):
        processes.pieces(10)
