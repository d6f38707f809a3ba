"""The reference that this machine trains: the same in every mode of the caller, named in records, one for each curve."""

from __future__ import annotations

import contextlib
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import test_runner
import torch
from test_runner import Laboratory
from torch import Tensor

from benchmarks import records, storage, tasks
from benchmarks.data.images import Pictures, centred
from benchmarks.errors import TaskError
from benchmarks.records.schema import ITEMS, REFERENCE
from benchmarks.running import freshness, references
from benchmarks.running.contents import items_hash, reference_hash, split_hash, tensors_hash
from benchmarks.running.state import state
from benchmarks.tasks import cifar10, digits
from benchmarks.training import fit, modes
from methods.interface import Split

laboratory = test_runner.laboratory


@contextlib.contextmanager
def changed_settings() -> Iterator[None]:
    """Settings of the whole process, and a generator that was used before."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_float32_matmul_precision("medium")
    torch.set_num_threads(2)
    try:
        torch.rand(3)
        yield
        assert torch.get_default_dtype() == torch.float64 and torch.get_num_threads() == 2
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)


MODES: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "grad off": lambda: torch.set_grad_enabled(False),
    "device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "settings": changed_settings,
}


def forget_data() -> None:
    digits._splits.cache_clear()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Tensor]:
    """A reference of one epoch, trained in no special mode."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RATEBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(digits, "RECIPE", replace(digits.RECIPE, epochs=1))
        found: Mapping[str, Tensor] = tasks.load("digits", "digits_cnn").reference().state_dict()
        return found


@pytest.mark.parametrize("around", MODES)
def test_the_reference_is_the_same_in_every_mode_of_the_caller(
    around: str, plain: Mapping[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is cached before, neither the reference nor the images; what was made in the mode can be trained later."""
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(digits, "RECIPE", replace(digits.RECIPE, epochs=1))
    forget_data()
    try:
        task, test = tasks.load("digits", "digits_cnn"), digits.test("digits_cnn")
        with MODES[around]():
            network, few, items = task.reference(), task.calibration(3), test.split()
            again = tasks.load("digits", "digits_cnn").reference()  # loaded
        for made in (network, again):
            assert tensors_hash(made.state_dict()) == tensors_hash(plain)
            assert all(t.dtype in (torch.float32, torch.int64) for t in made.state_dict().values())
        tensors = (few.inputs, items.inputs, items.targets, task.train.targets, *network.state_dict().values())
        assert not any(tensor.is_inference() or tensor.is_meta for tensor in tensors)
        task.loss(network(task.prepare(few.inputs)), few.targets).backward()
    finally:
        forget_data()


def test_an_error_of_the_training_is_not_one_of_the_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> Mapping[str, Tensor]:
        raise RuntimeError("out of memory")

    task: Any = replace(tasks.load("digits", "digits_cnn"), load_state=fails)  # type: ignore[type-var]
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        task.reference()
    other: Any = replace(task, load_state=lambda: {"0.weight": torch.ones(2)})
    with pytest.raises(TaskError, match="the reference digits_cnn does not fit its architecture"):
        other.reference()


def test_a_hash_of_tensors_depends_on_names_types_shapes_and_bytes_alone() -> None:
    weight, bias = torch.rand(4, 3, 2, 2), torch.zeros(4)
    known = tensors_hash({"weight": weight, "bias": bias})
    assert known == tensors_hash({"bias": bias, "weight": weight.to(memory_format=torch.channels_last)})
    flipped = weight.clone()
    flipped.view(-1).view(torch.uint8)[17] ^= 1
    others = [
        {"weight": flipped, "bias": bias},
        {"weight": weight, "shift": bias},
        {"weight": weight.view(3, 4, 2, 2), "bias": bias},
        {"weight": weight.view(torch.int32), "bias": bias},
        {"weight": weight},
        {"weight": weight, "bias": bias, "steps": torch.tensor(0)},
        {"weight": weight, "bias": torch.zeros(4, dtype=torch.bfloat16)},
        {"weight": bias, "bias": weight},
    ]
    assert len({known, *map(tensors_hash, others)}) == len(others) + 1


def test_batch_counters_that_a_checkpoint_does_not_have_are_zero() -> None:
    """Those of the first releases of PyTorch had none: what memory holds by chance must not be part of a reference."""
    task: Any = tasks.load("digits", "digits_cnn")
    old = OrderedDict((name, t) for name, t in task.load_state().items() if "num_batches_tracked" not in name)
    kept = [torch.full((200,), 77) for _ in range(50)]  # memory that is freed, and given out again
    del kept
    for _ in range(20):
        counters = replace(task, load_state=lambda: old).reference().state_dict()
        assert [int(t) for name, t in counters.items() if "num_batches_tracked" in name] == [0, 0, 0]


def test_a_hash_of_items_sees_each_image_and_each_label_of_each_part() -> None:
    task, test = tasks.load("digits", "digits_cnn"), digits.test("digits_cnn")
    train, validation, items = task.train, task.validation, test.split()

    def hashed(train: Split = train, validation: Split = validation, items: Split = items) -> str:
        given: Any = SimpleNamespace(train=train, validation=validation)
        tested: Any = SimpleNamespace(split=lambda: items)
        return items_hash(given, tested)

    def damaged(split: Split, part: str) -> Split:
        tensor = getattr(split, part).clone()
        tensor.view(-1)[-1] += 1
        return replace(split, **{part: tensor})

    known = hashed()
    assert known == items_hash(task, test)
    parts = {"train": train, "validation": validation, "items": items}
    others = [hashed(**{name: damaged(split, part)}) for name, split in parts.items() for part in ("inputs", "targets")]
    assert len({known, hashed(train=validation, validation=train), *others}) == 8


def test_images_on_disk_are_hashed_by_names_sizes_and_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not read, and may lie anywhere, in any order."""
    for folder in (tmp_path / "a", tmp_path / "b"):
        for name in ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"no image " + name.encode())

    def hashed(folder: str, labels: list[int], order: tuple[int, ...] = (0, 1, 2)) -> str:
        paths = sorted((tmp_path / folder).rglob("*.jpg"))
        images: Any = Pictures([paths[i] for i in order], centred(8))
        return split_hash(Split(images, torch.tensor([labels[i] for i in order])))

    known = hashed("a", [0, 0, 1])
    assert known == hashed("b", [0, 0, 1]) == hashed("b", [0, 0, 1], (2, 0, 1)) != hashed("a", [1, 1, 0])
    (tmp_path / "b/cat/2.jpg").write_bytes(b"another size")
    assert hashed("b", [0, 0, 1]) != known
    (tmp_path / "a/cat/2.jpg").rename(tmp_path / "a/dog/2.jpg")
    assert hashed("a", [0, 1, 1]) != known


def test_a_part_that_a_task_does_not_have_counts_as_missing() -> None:
    class NoTraining:
        @property
        def train(self) -> Split:
            raise TaskError("no images for training")

        validation = Split(torch.ones(2, 3), torch.zeros(2))

    plain: Any = SimpleNamespace(example=torch.ones(1, 3), items=7)  # a test without `split`
    other: Any = SimpleNamespace(example=torch.ones(1, 3), items=8)
    task: Any = NoTraining()
    assert items_hash(task, plain) == items_hash(task, plain) != items_hash(task, other)


def test_a_downloaded_reference_is_pinned_and_a_trained_one_is_not(laboratory: Laboratory) -> None:
    for name in set(tasks.names()) - {"imagenet"}:  # its pins are in the checkout
        found = [network for network in tasks.get(name).NETWORKS if references.trained_here(name, network)]
        assert bool(found) == hasattr(tasks.get(name), "cached_reference"), name
    assert not references.trained_here("mnist", "lenet5") and references.trained_here("mnist", "lenet_300_100")
    assert references.required("cifar10", "resnet20") == {}
    laboratory.patch.setitem(tasks.get("digits").NETWORKS, "new", ("digits_cnn", {"width": 8}))
    laboratory.patch.setattr(digits, "fit", lambda *_: pytest.fail("it was trained"))
    laboratory.patch.setenv("RATEBENCH_CACHE", str(laboratory.folder / "empty"))
    assert references.required("digits", "new") is None


def another(network: str) -> dict[str, Tensor]:
    """A network of the reference's architecture that is not the reference."""
    tensors = dict(tasks.load("digits", network).reference().state_dict())
    return {name: tensor * 1.25 if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a reference that this machine has trained: that of another one, in a shared cache, can differ."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RATEBENCH_CACHE", str(tmp_path_factory.mktemp("trained")))
        tasks.load("digits", "digits_cnn").reference()
        return digits._cached("digits_cnn")


@pytest.fixture
def own_cache(laboratory: Laboratory, trained: Path) -> Laboratory:
    """A laboratory with a cache folder of its own, which has the reference."""
    folder = laboratory.folder / "cache" / "digits"
    folder.mkdir(parents=True)
    shutil.copy(trained, folder)
    laboratory.patch.setenv("RATEBENCH_CACHE", str(folder.parent))
    return laboratory


def data_of(laboratory: Laboratory) -> list[dict[str, str]]:
    return [known.provenance.data for known in records.load(laboratory.results, "digits")]


def test_records_name_the_reference_and_the_items_that_were_used(own_cache: Laboratory) -> None:
    own_cache.run()
    task = tasks.load("digits", "digits_cnn")
    expected = {
        **digits.provenance("digits_cnn"),
        REFERENCE: reference_hash(task),
        ITEMS: items_hash(task, digits.test("digits_cnn")),
    }
    assert data_of(own_cache) == [expected] * 3
    storage.save_tensors(digits._cached("digits_cnn"), another("digits_cnn"))
    own_cache.run(own_cache.folder / "other")
    (other, *_) = (r.provenance.data for r in records.load(own_cache.folder / "other", "digits"))
    assert {name for name in other if other[name] != expected[name]} == {REFERENCE}


def test_one_curve_is_of_one_reference(own_cache: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    """Points that were measured with another reference are measured again, wherever the run was interrupted."""
    own_cache.patch.setenv("TINY", "fail")  # after the first point
    own_cache.run()
    own_cache.patch.delenv("TINY")
    first = tensors_hash(digits.cached_reference("digits_cnn") or {})
    storage.save_tensors(digits._cached("digits_cnn"), another("digits_cnn"))
    own_cache.run()
    second = tensors_hash(digits.cached_reference("digits_cnn") or {})
    assert [data[REFERENCE] for data in data_of(own_cache)] == [second] * 3 != [first] * 3
    cell = own_cache.cells()[0]
    assert state(cell, own_cache.results)
    assert set(freshness.current(list(records.load(own_cache.results, "digits"))).values()) == {True}

    digits._cached("digits_cnn").unlink()  # the next one is the first again
    own_cache.patch.setattr(digits, "fit", lambda *_: pytest.fail("it was trained"))
    capsys.readouterr()
    assert own_cache.ratebench("plan", "digits") == 0
    assert "to run" in capsys.readouterr().out
    assert set(freshness.current(list(records.load(own_cache.results, "digits"))).values()) == {None}
    own_cache.patch.setattr(digits, "fit", fit)
    assert own_cache.ratebench("run", "digits") == 0
    assert [data[REFERENCE] for data in data_of(own_cache)] == [first] * 3
    storage.save_tensors(digits._cached("digits_cnn"), another("digits_cnn"))
    assert set(freshness.current(list(records.load(own_cache.results, "digits"))).values()) == {False}
    assert state(cell, own_cache.results) is None


def test_a_reference_that_is_trained_again_to_the_same_bytes_costs_nothing_else(own_cache: Laboratory) -> None:
    own_cache.run()
    before = {path: path.stat().st_mtime_ns for path in own_cache.results.rglob("p*")}
    digits._cached("digits_cnn").unlink()
    outcomes, said = own_cache.run()
    assert outcomes == ["complete"] and not said and digits._cached("digits_cnn").exists()
    assert {path: path.stat().st_mtime_ns for path in own_cache.results.rglob("p*")} == before


def test_a_checkpoint_of_another_reference_is_not_used(own_cache: Laboratory) -> None:
    own_cache.configure({"epochs": 1})
    own_cache.patch.setenv("TINY", "fail")
    own_cache.run()
    own_cache.patch.delenv("TINY")
    storage.save_tensors(digits._cached("digits_cnn"), another("digits_cnn"))
    outcomes, said = own_cache.run()
    assert outcomes == ["failed"]
    assert "the checkpoint of 'train' was saved before a change to the reference, so it can't be used" in said[-1]
    assert "run with --fresh to start this cell over" in said[-1]
    assert own_cache.run(fresh=True)[0] == ["complete"]


def test_the_cached_reference_depends_on_the_code_of_its_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    monkeypatch.setattr(digits, "code_hash", lambda files: seen.append({file.name for file in files}) or "0" * 64)
    digits._cached("digits_resnet")
    assert seen[0] >= {"digits.py", "digits_resnet.py", "classification.py", "loop.py"}


def test_records_of_a_pinned_reference_stay_valid_without_these_hashes(laboratory: Laboratory) -> None:
    """Those of earlier releases. The file's own hash is in the fingerprint."""
    path = sorted((Path(__file__).parents[1] / "results" / "cifar10").rglob("p00.json"))[0]
    known = records.read(path)
    bare = {name: value for name, value in known.provenance.data.items() if name not in (REFERENCE, ITEMS)}
    for data in (bare, {**bare, REFERENCE: "sha256:0"}):
        provenance = msgspec.structs.replace(known.provenance, data=data)
        other = msgspec.structs.replace(known, provenance=provenance)
        assert freshness.current([other])[known.id] is not None
        assert references.holds(other, references.required("cifar10", known.network) or {})
    assert bare == cifar10.provenance(known.network)


def test_standard_modes_are_undone_after_an_error() -> None:
    with changed_settings(), pytest.raises(ValueError, match="inside"), modes.standard():
        assert torch.get_default_dtype() == torch.float32
        raise ValueError("inside")
