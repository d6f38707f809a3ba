"""What holds for every method, run on embedded data: a contributed method is tested from its first day.

Each method runs on the first and the last value of each of its grids. Its curve is computed once and shared by the tests;
what has to be run again (another seed, an interruption) is run for one point where that shows it.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import inspect
import itertools
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

import methods
from benchmarks import bitstream, seeds, tasks
from benchmarks.bitstream import blueprint, codecs
from benchmarks.evaluation import measure
from benchmarks.evaluation.scoring import total_score
from benchmarks.papers import reported
from benchmarks.training import loop
from methods.interface import Budget, Compressed, Split, Task

POST_TRAINING, SHORT, PAPER = Budget("post-training", 0.0), Budget("short", 1.0), Budget("paper", None)
EMBEDDED = ("digits", "diabetes", "thumbnails", "digits_features")
every_method = pytest.mark.parametrize("key", methods.names())
FEWER: dict[str, dict[str, Any]] = {  # settings that only cost time here
    "aq": {"points": [[4, 64], [1, 64]], "short_points": [[3, 64], [1, 64]]},
    "hierarchical": {"batches": 8, "size": 16, "share": 0.5, "tolerance": 0.1},
    "inr": {"iterations": 40, "steps": 3},
    "ntk": {"epochs": 10},
    "psap": {"prunings": 3, "pulse": 1},
    "sap": {"rounds": 2, "batch": 32},  # of 1,300 images
}
NEAR = {"psnr": 1.0}  # what the first point may lose, in the metric's unit; of an accuracy, 0.05
FAR = {
    "ntk": "by its paper, it loses up to 18 points at equal width"
}  # methods whose first point is far from the reference
PAPER_EPOCHS = 4  # instead of hundreds, where a configuration says how many


class MemoryRun:
    """A run whose checkpoints live in a dictionary, so that a test can interrupt it and go on."""

    def __init__(self, budget: Budget, seed: int = 0, saved: dict[str, dict[str, Any]] | None = None) -> None:
        self.seed, self.budget, self.device = seed, budget, torch.device("cpu")
        self.saved = {} if saved is None else saved
        self.messages: list[str] = []

    def generator(self, *names: str | int) -> torch.Generator:
        return seeds.generator(self.seed, *names)

    def checkpoint(self, stage: str, state: Mapping[str, Any]) -> None:
        self.saved[stage] = copy.deepcopy(dict(state))

    def restore(self, stage: str) -> dict[str, Any] | None:
        return self.saved.get(stage)

    def progress(self, message: str) -> None:
        self.messages.append(message)


def config_of(key: str) -> Any:
    """The default configuration with the first and the last value of each grid."""
    kind = methods.get(key).Config
    plain = msgspec.json.decode(msgspec.json.encode(kind()))
    ends = {name: [value[0], value[-1]] for name, value in plain.items() if isinstance(value, list) and len(value) > 2}
    return msgspec.convert({**plain, **ends, **FEWER.get(key, {})}, kind)


def task_for(key: str) -> Task:
    """The first of the embedded networks that the method supports."""
    method = methods.get(key)
    reasons = []
    embedded = [tasks.load(name, network) for name in EMBEDDED for network in tasks.get(name).NETWORKS]
    for task in embedded:
        if task.kind not in method.CARD.kinds:
            continue
        if (reason := method.unsupported(task, config_of(key))) is None:
            return task
        reasons.append(reason)
    pytest.skip("; ".join(reasons))


def budget_of(key: str) -> Budget:
    """The cheapest budget that the method runs with."""
    return next(budget for budget in (POST_TRAINING, SHORT, PAPER) if budget.name in methods.get(key).CARD.budgets)


def points(key: str, run: MemoryRun) -> Iterator[Compressed]:
    return methods.get(key).compress(task_for(key), config_of(key), run)


def labels(compressed: Compressed) -> bytes:
    return msgspec.json.encode(compressed.point, order="sorted")


@dataclass(frozen=True)
class Curve:
    """The points of a method with their files, and the epochs that passed in `fit` for each."""

    points: tuple[tuple[Compressed, bytes], ...]
    epochs: tuple[float, ...]


def curve(key: str, budget: Budget | None = None) -> tuple[tuple[Compressed, bytes], ...]:
    """The points of a method with their files, at its cheapest budget or another one; computed once."""
    return _curve(key, budget or budget_of(key)).points


@functools.cache
def _curve(key: str, budget: Budget) -> Curve:
    made, epochs = [], [0.0]
    with counted_training() as passed:
        for compressed in points(key, MemoryRun(budget)):
            made.append((compressed, bitstream.encode(compressed)))
            epochs.append(sum(passed))
    return Curve(tuple(made), tuple(later - earlier for earlier, later in itertools.pairwise(epochs)))


@contextlib.contextmanager
def counted_training(fake: bool = False) -> Iterator[list[float]]:
    """The epochs, and the last ones' shares, that `fit` passes through; with `fake`, callbacks alone see the steps."""
    for network in tasks.get("digits").NETWORKS:  # with an empty cache, these are trained now and do not count
        tasks.load("digits", network).reference()
    passed: list[float] = []
    epoch_of = loop._Training.epoch

    @torch.no_grad()
    def only_counted(training: Any, train: Split, share: float) -> float:
        for _ in range(max(1, round(share * math.ceil(len(train) / training.recipe.batch)))):
            training.callback.after_step()
        return 0.0

    def counted(training: Any, train: Split, epoch: int) -> float:
        passed.append(min(1.0, training.recipe.epochs - epoch))
        return only_counted(training, train, passed[-1]) if fake else epoch_of(training, train, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Training, "epoch", counted)
        yield passed


def tensor_hash(network: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _numbers_replaced(value: Any, number: int) -> Any:
    """The same nested lists, with this number in place of each."""
    if isinstance(value, list | tuple):
        return [_numbers_replaced(inner, number) for inner in value]
    return number if isinstance(value, int | float) and not isinstance(value, bool) else value


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("uniform", {"steps": [0.5, 0.1]}),
        ("uniform", {"steps": []}),
        ("nnc", {"qps": [-6, -41]}),
        ("aq", {"ratios": [15, 7]}),
    ],
)
def test_grids_are_ordered_from_the_largest_file_to_the_smallest(key: str, changes: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"{next(iter(changes))} has to rise, from the largest file to"):
        msgspec.convert(changes, methods.get(key).Config)


@every_method
def test_absurd_numbers_are_refused_before_anything_runs(key: str) -> None:
    kind = methods.get(key).Config
    for name, value in msgspec.to_builtins(kind()).items():
        for number in (10**30, -(10**30)):
            absurd = _numbers_replaced(value, number)
            if str(number) in str(absurd):
                with pytest.raises(msgspec.ValidationError):
                    msgspec.convert({name: absurd}, kind)


@every_method
def test_the_card_says_who_and_how_close_to_the_paper(key: str) -> None:
    card = methods.get(key).CARD
    assert card.key == key
    assert card.title
    assert card.fidelity in ("paper", "reconstruction", "baseline")
    assert card.fidelity != "reconstruction" or card.note, "a reconstruction says what it was rebuilt from"


@every_method
def test_the_config_is_plain_data(key: str) -> None:
    config = methods.get(key).Config()
    again = msgspec.convert(msgspec.json.decode(msgspec.json.encode(config)), type(config))
    assert again == config


@every_method
def test_unsupported_is_a_sentence_or_none_for_every_task_of_its_kinds(key: str) -> None:
    method = methods.get(key)
    for task in tasks.names():
        for network in tasks.get(task).NETWORKS:
            known = tasks.load(task, network)
            reason = method.unsupported(known, method.Config()) if known.kind in method.CARD.kinds else None
            assert reason is None or len(reason) > 10


@every_method
@pytest.mark.parametrize("budget", [POST_TRAINING, SHORT, PAPER], ids=lambda budget: budget.name)
def test_each_operating_point_has_the_epochs_of_the_budget(key: str, budget: Budget) -> None:
    epochs = config_of(key).operating_points(budget)
    assert len(epochs) >= 2
    if budget.epochs is not None and budget.name in methods.get(key).CARD.budgets:
        assert epochs == [budget.epochs] * len(epochs)


@every_method
@pytest.mark.parametrize("budget", [POST_TRAINING, SHORT], ids=lambda budget: budget.name)
def test_each_point_is_trained_for_the_epochs_of_the_budget(key: str, budget: Budget) -> None:
    """By what passes in `fit`: the budget's epochs and no more."""
    if budget.name in methods.get(key).CARD.budgets:
        passed = _curve(key, budget).epochs
        assert passed == pytest.approx([budget.epochs] * len(passed))


@every_method
def test_each_point_is_trained_as_the_paper_says(key: str) -> None:
    """For as many epochs as `operating_points` tells; nothing but the callbacks sees a step."""
    budget, config = Budget("paper", None), config_of(key)
    if budget.name not in methods.get(key).CARD.budgets:
        return
    if hasattr(config, "epochs"):
        config = replace(config, epochs=PAPER_EPOCHS)
    with counted_training(fake=True) as passed:
        made = methods.get(key).compress(task_for(key), config, MemoryRun(budget))
        epochs = [0.0, *(sum(passed) for _ in made)]
    by_point = [later - earlier for earlier, later in itertools.pairwise(epochs)]
    assert by_point == pytest.approx(config.operating_points(budget)) and min(by_point) > 0


@every_method
def test_reported_rows_follow_the_schema(key: str) -> None:
    assert all(row.source for row in reported.of(key))


@every_method
def test_no_method_reaches_for_test_images(key: str) -> None:
    source = methods.source(key)
    for file in [source] if source.is_file() else source.rglob("*.py"):
        assert "test_split" not in file.read_text(encoding="utf-8")


@every_method
def test_the_curve_falls_from_high_rate_to_low(key: str) -> None:
    sizes = [len(data) for _, data in curve(key)]
    assert len(sizes) == len(config_of(key).operating_points(budget_of(key)))
    assert all(later < earlier for earlier, later in itertools.pairwise(sizes))


@every_method
def test_points_have_labels_of_their_own(key: str) -> None:
    made = [labels(c) for c, _ in curve(key)]
    assert len(set(made)) == len(made)


@every_method
def test_the_file_holds_what_its_parts_declare(key: str) -> None:
    for compressed, data in curve(key):
        network = bitstream.decode(data)
        tensors = blueprint.state(network)
        for part in compressed.parts:
            coded = codecs.get(part.codec).encode(part)
            shapes = [tuple(tensors[target].shape) for target in part.targets]
            arrays = codecs.get(part.codec).decode(coded.meta, [stream for _, stream in coded.streams], shapes)
            for target, array in zip(part.targets, arrays, strict=True):
                assert torch.equal(tensors[target], torch.from_numpy(array)), target


@every_method
def test_bytes_by_role_add_up(key: str) -> None:
    assert all(sum(bitstream.bytes_by_role(data).values()) == len(data) for _, data in curve(key))


FRESH = """
import hashlib, os, pathlib, sys
from benchmarks import bitstream
{tensor_hash}
for line in sys.stdin:
    if os.fork() == 0:
        try:
            answer = tensor_hash(bitstream.decode(pathlib.Path(line.strip()).read_bytes()))
        except Exception as error:
            answer = repr(error)
        print(answer, flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def fresh_hash() -> Iterator[Callable[[Path], str]]:
    """The hash of what a file decodes to in a process that has imported the bitstream and decoded nothing before."""
    code = FRESH.format(tensor_hash=inspect.getsource(tensor_hash).replace("torch.nn.Module", "object"))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as own:
        assert own.stdin is not None and own.stdout is not None
        questions, answers = own.stdin, own.stdout

        def ask(path: Path) -> str:
            print(path, file=questions, flush=True)
            return answers.readline().strip()

        yield ask
        questions.close()


@every_method
def test_a_fresh_process_decodes_the_same_network(key: str, tmp_path: Path, fresh_hash: Callable[[Path], str]) -> None:
    data = curve(key)[-1][1]
    (tmp_path / "x.rbn").write_bytes(data)
    assert fresh_hash(tmp_path / "x.rbn") == tensor_hash(bitstream.decode(data))


@every_method
def test_the_first_point_is_close_to_the_reference(key: str) -> None:
    task = task_for(key)
    dense = total_score(task.reference(), task.validation, task)
    decoded = bitstream.decode(curve(key)[0][1])
    example = task.prepare(task.validation.inputs[:1])
    left = measure.macs(decoded, example) / measure.macs(task.reference(), example)
    if left < 0.8:
        pytest.skip(
            f"its first point has {left:.0%} of the reference's multiply-accumulates, far from its accuracy too"
        )
    if key in FAR:
        pytest.skip(FAR[key])
    if budget_of(key) == SHORT:  # random weights need more than an epoch
        decoded = bitstream.decode(bitstream.encode(next(points(key, MemoryRun(Budget("short", 10.0))))))
    first = total_score(decoded, task.validation, task)
    assert first >= dense - NEAR.get(task.metrics[0].name, 0.05) * len(task.validation)


@every_method
def test_the_seed_is_all_that_decides_and_global_state_is_left_alone(key: str) -> None:
    """The first point again, by the same seed where seeds matter and by another one where they do not."""
    task, budget = task_for(key), budget_of(key)
    before, random_before = tensor_hash(task.reference()), torch.random.get_rng_state()
    deterministic = budget is POST_TRAINING and not getattr(config_of(key), "random", False)
    again = next(points(key, MemoryRun(budget, seed=int(deterministic))))
    first, data = curve(key)[0]
    assert labels(again) == labels(first) and bitstream.encode(again) == data
    if not deterministic:
        other = next(points(key, MemoryRun(budget, seed=1)))
        assert labels(other) == labels(first), "what differs between seeds is a note"
        assert bitstream.encode(other) != data, "a seed that changes nothing is no seed"
    assert tensor_hash(task.reference()) == before
    assert torch.equal(torch.random.get_rng_state(), random_before)


@every_method
def test_an_interrupted_run_goes_on_to_the_same_bytes(key: str) -> None:
    budget = SHORT if "short" in methods.get(key).CARD.budgets else budget_of(key)
    whole = [data for _, data in curve(key, budget)]
    saved: dict[str, dict[str, Any]] = {}
    begun = points(key, MemoryRun(budget, saved=saved))
    first = bitstream.encode(next(begun))
    begun.close()
    resumed = [bitstream.encode(c) for c in points(key, MemoryRun(budget, saved=saved))]
    assert first == whole[0]
    assert resumed == whole
