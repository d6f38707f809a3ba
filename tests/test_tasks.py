"""Tasks: what a method may see, splits that never meet, references that are what they promise."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import test_runner
import torch
from test_runner import Laboratory
from torch import nn

from benchmarks import networks, records, storage, tasks
from benchmarks.bitstream import blueprint
from benchmarks.errors import TaskError, UnknownName
from benchmarks.evaluation.scoring import total_score
from benchmarks.running.state import state
from benchmarks.tasks import cifar10, digits
from benchmarks.tasks.kinds.classification import Classification, cut
from methods.interface import CLASSIFICATION, IMAGE_CODING, REGRESSION, Split

laboratory = test_runner.laboratory
ROOT = Path(__file__).resolve().parent.parent
CLASSES = {"cifar100": 100, "mnist_0_4": 5, "mnist_6_8": 2}  # those of other tasks are the usual number
SIZES = {"digits": (1197, 200, 400), "cifar10": (45_000, 5_000, 10_000)}


def rows(split: Split) -> list[int]:
    return [hash(image.tobytes()) for image in split.inputs.numpy()]


@pytest.mark.parametrize("name", tasks.names())
def test_a_task_says_alike_what_a_method_and_the_suite_are_told(name: str) -> None:
    """Nothing is loaded for it."""
    module = tasks.get(name)
    for network in module.NETWORKS:
        task, test = tasks.load(name, network), module.test(network)
        assert (task.name, task.network) == (name, network)
        assert task.metrics == module.METRICS and test.items == module.ITEMS[1] > 0
        with torch.device("meta"):
            reference = networks.build(task.architecture, task.arguments).eval()
        classes = CLASSES.get(name, 1000 if "imagenet" in name else 10)
        pixels = test.example.shape[-2]
        first, outputs = {
            CLASSIFICATION: ("top-1", (classes,)),
            REGRESSION: ("mse", (1,)),
            IMAGE_CODING: ("psnr", (pixels, 3)),
        }[task.kind]
        assert module.METRICS[0].name == first
        assert reference(test.example.to("meta")).shape == (1, *outputs)
        values = sum(tensor.numel() for tensor in blueprint.state(reference).values())
        expected = (None, 3 * pixels) if task.kind == IMAGE_CODING else (values, 4 * values)
        assert (task.reference_values, task.uncompressed_bytes) == expected


@pytest.mark.parametrize("name", tasks.names())
def test_no_part_of_a_task_shows_a_test_image(name: str) -> None:
    module = tasks.get(name)
    task: Any = tasks.load(name, next(iter(module.NETWORKS)))
    for attribute in dir(task):
        assert "test" not in attribute.lower(), attribute
    loaders = {field.name for field in dataclasses.fields(task) if callable(getattr(task, field.name))}
    assert loaders == {"load_splits", "load_state"} | ({"load_calibration"} if name == "imagenet_sample" else set())


def test_digits_splits_are_disjoint_and_whole() -> None:
    task = tasks.load("digits", "digits_cnn")
    splits = (task.train, task.validation, digits.test_split())
    assert tuple(map(len, splits)) == SIZES["digits"]
    everything = [row for split in splits for row in rows(split)]
    images = torch.from_numpy(digits.load_digits().images * (255 / 16)).round().to(torch.uint8)
    assert sorted(everything) == sorted(rows(Split(images.unsqueeze(1), torch.empty(0))))
    assert all(split.inputs.dtype == torch.uint8 and split.targets.dtype == torch.int64 for split in splits)
    assert len(task.load_splits()) == 2  # type: ignore[attr-defined]


def test_cut_gives_disjoint_splits_that_are_always_the_same() -> None:
    images, labels = torch.arange(1000).view(-1, 1, 1, 1), torch.arange(1000)
    first, second = cut(images, labels, 300, 700), cut(images, labels, 300, 700)
    assert [len(split) for split in first] == [300, 700]
    assert sorted(torch.cat([split.targets for split in first]).tolist()) == list(range(1000))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.targets, b.targets) and torch.equal(a.inputs.flatten(), a.targets)
    assert first[0].targets[:5].tolist() == [321, 399, 78, 749, 555]


def test_calibration_images_are_training_images_and_nested() -> None:
    task = tasks.load("digits", "digits_cnn")
    few, many = task.calibration(50), task.calibration(400)
    assert len(few) == 50 and torch.equal(few.inputs, many.inputs[:50])
    assert set(rows(many)) <= set(rows(task.train))
    for n in (0, -1, 1198):
        with pytest.raises(TaskError, match=f"calibration needs between 1 and 1197 images, not {n}"):
            task.calibration(n)


def test_the_digits_reference_trains_to_the_same_bytes_and_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path))
    global_state = torch.get_rng_state()
    first = digits.task("digits_cnn").reference()
    (kept,) = (tmp_path / "digits").iterdir()
    monkeypatch.setattr(digits, "fit", None)
    again = digits.task("digits_cnn").reference()  # loaded, not trained
    monkeypatch.undo()
    shared = tasks.load("digits", "digits_cnn").reference()  # trained at another time, or loaded from the user's cache
    assert torch.equal(torch.get_rng_state(), global_state)
    assert set(storage.load_tensors(kept)) == set(first.state_dict())
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]) and torch.equal(tensor, shared.state_dict()[name]), name
    assert not first.training and {tensor.device.type for tensor in first.state_dict().values()} == {"cpu"}
    correct = total_score(first, digits.test_split(), tasks.load("digits", "digits_cnn"))
    assert correct > 0.95 * 400


def test_a_reference_is_a_fresh_copy() -> None:
    task = tasks.load("digits", "digits_cnn")
    with torch.no_grad():
        next(task.reference().parameters()).zero_()
    assert torch.count_nonzero(next(task.reference().parameters()))


def test_a_reference_of_another_architecture_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks.load("digits", "digits_cnn")
    other: Any = dataclasses.replace(task, arguments={"width": 8})  # type: ignore[type-var]
    with pytest.raises(TaskError, match="the reference digits_cnn does not fit its architecture"):
        other.reference()
    monkeypatch.setattr(cifar10.download, "fetch", lambda file: tmp_path / "model.th")
    for content, sentence in (
        ({"weights": {}}, "has no 'state_dict'"),
        ([1, 2], "holds a list, not named tensors"),
        (b"<html>not found</html>", "can't read"),
    ):
        if isinstance(content, bytes):
            (tmp_path / "model.th").write_bytes(content)
        else:
            torch.save(content, tmp_path / "model.th")
        with pytest.raises(TaskError, match=sentence):
            tasks.load("cifar10", "resnet20").reference()


def test_a_reference_with_nan_weights_is_refused_and_nothing_is_written(laboratory: Laboratory) -> None:
    task = tasks.load("digits", "digits_cnn")
    broken = {name: tensor * float("nan") for name, tensor in task.reference().state_dict().items()}
    laboratory.patch.setattr("benchmarks.tasks.digits._train", lambda task: broken)
    assert laboratory.run()[0] == ["failed"]
    assert sorted(path.name for path in (laboratory.results / laboratory.cells()[0].id).iterdir()) == ["cell.json"]
    ended = state(laboratory.cells()[0], laboratory.results)
    assert ended and ended.error and "NaN or infinite values in '0.weight'" in ended.error


def test_a_checkpoint_can_not_run_code(tmp_path: Path) -> None:
    torch.save({"state_dict": Trap()}, tmp_path / "model.th")
    with pytest.raises(TaskError, match=r"can't read .*model\.th: (?!.*delete)"):
        storage.load_tensors(tmp_path / "model.th")


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("the checkpoint ran code",)


@pytest.mark.parametrize(
    ("depth", "parameters"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test_option_a_resnets_have_the_published_size(depth: int, parameters: int) -> None:
    """By hand, with n = (depth − 2) / 6 blocks a stage: convolutions, then two vectors per BatchNorm, then the classifier."""
    n = (depth - 2) // 6
    convolutions = 9 * (3 * 16 + 2 * n * 16 * 16 + 16 * 32 + (2 * n - 1) * 32 * 32 + 32 * 64 + (2 * n - 1) * 64 * 64)
    vectors = 2 * (16 + 2 * n * (16 + 32 + 64))
    with torch.device("meta"):
        network = networks.build("cifar_resnet", {"depth": depth})
    assert sum(p.numel() for p in network.parameters()) == convolutions + vectors + 650 == parameters
    assert sum(t.numel() for t in blueprint.state(network).values()) == parameters + vectors  # means and variances


def test_unknown_names_get_suggestions_and_bad_arguments_a_sentence() -> None:
    with pytest.raises(UnknownName, match="unknown task 'digit': did you mean 'digits'"):
        tasks.load("digit", "digits_cnn")
    with pytest.raises(UnknownName, match="unknown network of task 'digits' 'resnet20'"):
        tasks.load("digits", "resnet20")
    for name, arguments in (
        ("cifar_resnet", {"depth": 21}),
        ("cifar_resnet", {"depth": 20, "classes": 10**9}),
        ("cifar_resnet", {"width": 3}),
        ("digits_cnn", {"width": 10**9}),
        ("digits_cnn", {"width": "16"}),
        ("vgg", {}),
    ):
        with pytest.raises(networks.NetworkError):
            networks.build(name, arguments)


@pytest.mark.mirror
def test_cifar10_splits_are_disjoint_and_of_the_stated_sizes() -> None:
    task = tasks.load("cifar10", "resnet20")
    splits = (task.train, task.validation, cifar10.test_split())
    assert tuple(map(len, splits)) == SIZES["cifar10"]
    train, validation, test = (set(rows(split)) for split in splits)
    assert not train & validation and not train & test and not validation & test
    assert torch.bincount(splits[2].targets).tolist() == [1000] * 10


@pytest.mark.mirror
@pytest.mark.parametrize(("network", "images", "correct"), [("resnet20", 10_000, 9173), ("resnet56", 1_000, 926)])
def test_public_references_have_their_known_accuracy(network: str, images: int, correct: int) -> None:
    """All test images of the small one; of the large one a tenth, and all in its record."""
    task: Classification = cifar10.task(network)
    assert total_score(task.reference(), cifar10.test_split(), task, range(images)) == correct


@pytest.mark.parametrize(("network", "correct"), [("resnet20", 9173), ("resnet56", 9339)])
def test_public_references_are_recorded_with_their_known_accuracy(network: str, correct: int) -> None:
    (path,) = (ROOT / "results" / "cifar10" / network / "reference").glob("*/p00.json")
    known = records.read(path)
    assert (known.quality.total, known.quality.items) == (correct, 10_000)
    assert cifar10.provenance(network).items() <= known.provenance.data.items()


def test_option_a_shortcuts_subsample_and_pad_with_zeros() -> None:
    network = networks.build("cifar_resnet", {"depth": 20})
    x = torch.randn(2, 16, 7, 8, generator=torch.Generator().manual_seed(0))
    y = network.layer2[0].shortcut(x)
    assert y.shape == (2, 32, 4, 4)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2]) and not y[:, :8].any() and not y[:, 24:].any()
    assert torch.equal(nn.AvgPool2d(1, 2)(x), x[:, :, ::2, ::2])  # the same as a module of the allow-list
