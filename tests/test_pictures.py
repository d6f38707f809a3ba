"""Images on disk that are indexed like a tensor, and the sample of ImageNet that is made of them."""

from __future__ import annotations

import csv
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import test_every_method
import torch
from PIL import Image
from places import TESTS, python_path
from test_ilsvrc import moments
from test_runner import InProcess
from torch import Tensor

from benchmarks import fingerprint, records, storage, tasks
from benchmarks.data.images import Pictures, View, _part, centred, cores, cropped, decode
from benchmarks.data.vision import transforms
from benchmarks.errors import TaskError
from benchmarks.evaluation import measure, scoring, shards, worker
from benchmarks.evaluation.messages import Wanted
from benchmarks.running import params, schedule
from benchmarks.running.cell import Cell
from benchmarks.tasks import digits, imagenet, imagenet_sample
from benchmarks.tasks.kinds.classification import ClassificationTest
from benchmarks.training import Recipe, fit
from methods.baselines import magnitude
from methods.interface import Budget, Split


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten photographs of noise in odd sizes, one of them grey."""
    made = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for i in range(10):
        values = generator.integers(256, size=(40 + i, 60 - i, 3), dtype=np.uint8)
        image = Image.fromarray(values)
        (image.convert("L") if i == 3 else image).save(made / f"{i}.JPEG", quality=95)
    return made


def pictures(folder: Path) -> Pictures:
    return Pictures([folder / f"{i}.JPEG" for i in range(10)], centred(32, 36))


def by_hand(path: Path) -> Tensor:
    image = Image.open(path).convert("RGB")
    short = min(image.size)
    image = image.resize((int(36 * image.width / short), int(36 * image.height / short)), Image.Resampling.BILINEAR)
    left, top = round((image.width - 32) / 2), round((image.height - 32) / 2)
    return torch.from_numpy(np.array(image.crop((left, top, left + 32, top + 32)))).permute(2, 0, 1)


def test_pictures_are_what_pillow_makes_of_them(folder: Path) -> None:
    found = pictures(folder)
    assert len(found) == 10
    everything = torch.stack([by_hand(folder / f"{i}.JPEG") for i in range(10)])
    assert torch.equal(found[:10], everything) and found[:1].dtype == torch.uint8


def test_slices_indices_and_masks_give_the_same_pictures(folder: Path) -> None:
    found = pictures(folder)
    everything = pictures(folder)[:]
    for start in range(0, 10, 4):  # what is decoded ahead is what comes next
        assert torch.equal(found[start : start + 4], everything[start : start + 4])
    order = torch.tensor([7, 0, 3, 3])
    assert torch.equal(found[order], everything[order])
    assert torch.equal(found[2:4], everything[2:4])
    mask = torch.arange(10) % 3 == 0
    assert torch.equal(found[mask], everything[mask])
    assert torch.equal(found.to(torch.device("cpu"))[5:], everything[5:])
    with pytest.raises(IndexError, match="no image was asked for"):
        found[10:]


def test_random_views_follow_their_seed_and_nothing_else(folder: Path) -> None:
    paths = [folder / f"{i}.JPEG" for i in range(10)]
    first, order = Pictures(paths, centred(24), cropped(24)), torch.tensor([4, 1, 9, 0, 3, 2])
    epochs = [first.epoch(order, seed) for seed in (1, 2, 1)]
    batches = [torch.cat([epoch[order[:3]], epoch[order[3:]]]) for epoch in epochs]
    assert torch.equal(batches[0], batches[2]) and not torch.equal(batches[0], batches[1])
    assert torch.equal(first.epoch(order, 1)[torch.tensor([0])][0], batches[0][3])  # whatever was asked before
    assert torch.equal(first[2:4], Pictures(paths, centred(24))[2:4])


def test_random_parts_lie_inside_and_vary_as_they_should() -> None:
    generator = torch.Generator().manual_seed(0)
    found = [_part(300, 400, 0.08, generator) for _ in range(2000)]
    for top, left, height, width in found:
        assert 0 <= top <= 300 - height and 0 <= left <= 400 - width and height > 0 and width > 0
    areas = torch.tensor([height * width / 120_000 for *_, height, width in found])
    assert 0.07 < areas.min() < 0.12 and areas.max() > 0.9 and 0.4 < areas.mean() < 0.55
    assert all(0.72 < height / width < 1.36 for *_, height, width in found)
    assert _part(1000, 10, 1.0, generator) == (493, 0, 13, 10)  # nothing of that shape fits: the middle


def test_training_reads_pictures_from_disk(folder: Path) -> None:
    """The same weights, bit for bit, as from a tensor of the same views; on 24 pixels cut to the network's 8."""
    embedded: Any = tasks.load("digits", "digits_cnn")
    paths = [folder / f"{i}.JPEG" for i in range(10)] * 13
    labels = torch.arange(len(paths)) % 10
    lazy = Pictures(paths, grey(centred(8)))
    states = []
    for images in (lazy, lazy[:]):
        split: Any = Split(images, labels)  # type: ignore[arg-type]
        task = replace(
            embedded, load_splits=lambda split=split: (split, split), load_state=embedded.reference().state_dict
        )
        network = task.reference()
        fit(network, task, test_every_method.MemoryRun(test_every_method.SHORT), Recipe(2.0, 0.05, batch=32), "disk")
        states.append(network.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(("machine", "local", "own"), [(8, None, 8), (8, "2", 4), (8, "3", 2), (2, "8", 1)])
def test_processes_of_a_machine_share_its_cores(
    machine: int, local: str | None, own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(machine)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if local:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    assert cores() == own


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
            r"4\.JPEG is a damaged image \(image file is truncated.*\): replace it by the data set's own file",
        ),
        (
            lambda path: path.write_bytes(b"<html>not found</html>"),
            r"4\.JPEG is no image: replace it by the data set's own file",
        ),
        (lambda path: path.unlink(), r"can't read .*4\.JPEG: No such file"),
    ],
)
def test_a_bad_file_is_named_when_its_turn_comes(damage, complaint: str, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damage(tmp_path / "4.JPEG")
    found = pictures(tmp_path)
    assert len(found[:3]) == 3  # the bad one is decoded ahead, and nobody asked for it yet
    with pytest.raises(TaskError, match=complaint):
        found[3:6]
    assert len(found[6:9]) == 3


def grey(view: View) -> View:
    return lambda image, generator: view(image.convert("L"), generator)


def work(what: str, folder: Path, place: Path, ready: Any) -> None:
    """In a process of its own: a cell of which the pictures in `folder` are all images, or the count of its first file."""
    torch.set_num_threads(1)
    paths = [folder / f"{i}.JPEG" for i in range(10)] * (26 if what == "train" else 130)
    split: Any = Split(Pictures(paths, grey(centred(8)), grey(cropped(8))), torch.arange(len(paths)) % 10)  # type: ignore[arg-type]
    task: Any = replace(digits.task("digits_cnn"), load_splits=lambda: (split, split))
    test = ClassificationTest(task, lambda: split, (1, 8, 8), len(paths))
    module = SimpleNamespace(METRICS=task.metrics, NETWORKS=["net"], task=lambda _: task, test=lambda _: test)
    module.provenance = lambda _: {"data": "pictures"}
    tasks.get, schedule.Scorer = lambda _: module, InProcess  # type: ignore[assignment,misc]
    measure.latency_ms, shards.SHARD = lambda *_: 1.0, 1
    task.reference()
    ready.set()
    if what == "train":
        config = params.plain(magnitude.Config(rounds=(0.5, 0.8)))
        cell = Cell("pictures", "pictures", "net", "magnitude", config, Budget("short", 6.0), 0)
        assert [outcome for _, outcome in schedule.run([cell], place, print)] == ["complete"]
    else:
        artefact = next(place.rglob("p00.rbn"))
        found = worker.score(Wanted(str(artefact), str(place / what)), "pictures", "net", torch.device("cpu"))
        right = found.scores["top-1"]
        (place / f"{what}.txt").write_text(f"{right.total} of {right.items}")


def begun(what: str, folder: Path, place: Path, moment: float | None = None) -> float:
    """Do that to its end, or kill it at a moment; returns the seconds that it was at it."""
    context = multiprocessing.get_context("forkserver")  # forks of a process that has imported everything once
    context.set_forkserver_preload([__name__])
    ready = context.Event()
    process = context.Process(target=work, args=(what, folder, place, ready))
    process.start()
    assert ready.wait(120)
    start = time.perf_counter()
    process.join(moment)
    took = time.perf_counter() - start
    process.kill()
    process.join()
    assert moment is not None or process.exitcode == 0
    return took


@pytest.fixture
def own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes find the project and its tests."""
    monkeypatch.setenv("PYTHONPATH", python_path(fingerprint.ROOT, TESTS))


@pytest.mark.usefixtures("own_modules")
def test_training_on_pictures_that_is_killed_three_times_ends_with_the_same_files(folder: Path, tmp_path: Path) -> None:
    def ended(name: str) -> list[tuple[str, int, int]]:
        known = list(records.load(tmp_path / name, "pictures"))
        return [(r.provenance.artefact_sha256, r.quality.total, r.quality.items) for r in known]

    took = begun("train", folder, tmp_path / "whole")
    for moment in moments(3, took):
        begun("train", folder, tmp_path / "killed", moment)
    begun("train", folder, tmp_path / "killed")
    assert len(ended("whole")) == 2 and ended("killed") == ended("whole")


@pytest.mark.usefixtures("own_modules")
def test_counting_pictures_that_is_killed_three_times_ends_with_the_same_count(folder: Path, tmp_path: Path) -> None:
    begun("train", folder, tmp_path)
    took = begun("whole", folder, tmp_path)
    for moment in moments(3, took):
        begun("killed", folder, tmp_path, moment)
    noted = len(list((tmp_path / "killed").glob("[!.]*")))
    begun("killed", folder, tmp_path)
    whole, killed = ((tmp_path / f"{what}.txt").read_text() for what in ("whole", "killed"))
    assert whole == killed and whole.endswith(" of 1300") and noted <= 21 == len(list((tmp_path / "whole").iterdir()))


def needs_the_sample() -> Path:
    try:
        return imagenet_sample.folder()
    except TaskError as error:
        pytest.skip(str(error))


def test_without_the_sample_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for mirror in ("", str(tmp_path)):
        monkeypatch.setenv("RATEBENCH_MIRROR", mirror)
        with pytest.raises(TaskError, match="needs the folder imagenet-val1300, which can't be downloaded: set RATEB"):
            imagenet_sample.folder.__wrapped__()
    (tmp_path / "imagenet-val1300").mkdir()
    (tmp_path / "imagenet-val1300" / "labels.csv").write_text("file,class_index,synset\n")
    with pytest.raises(TaskError, match="is not the sample that this suite knows"):
        imagenet_sample.folder.__wrapped__()


def test_weights_without_an_address_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("RATEBENCH_MIRROR", raising=False)
    with pytest.raises(
        TaskError, match=r"mobilenet_v1_0.75_224\.safetensors has no public address and RATEBENCH_MIRROR"
    ):
        tasks.load("imagenet_sample", "mobilenet_v1_0.75").reference()


def test_a_damaged_safetensors_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(TaskError, match=r"can't read .*x\.safetensors"):
        storage.load_tensors(tmp_path / "x.safetensors")


def test_the_sample_has_photographs_for_calibration_and_nothing_to_train_on() -> None:
    task = tasks.load("imagenet_sample", "mobilenet_v1_0.75")
    for use in (lambda: task.train, lambda: task.validation):
        with pytest.raises(TaskError, match="no labelled images but the 1,300 that are scored: methods that train"):
            use()
    try:
        found = task.calibration(40)
    except TaskError as error:
        pytest.skip(str(error))
    inputs = found.inputs[torch.arange(40)]
    assert inputs.shape == (40, 3, 224, 224) and inputs.dtype == torch.uint8 and (found.targets == -1).all()
    again = tasks.load("imagenet_sample", "mobilenet_v1_0.75").calibration(40).inputs
    assert torch.equal(inputs, again[torch.arange(40)]), "crops differ from one reading to the next"
    with pytest.raises(TaskError, match="between 1 and 720 images, not 721"):
        task.calibration(721)


def test_photographs_are_resized_as_for_torchvisions_own_weights() -> None:
    """The whole preset, by the weights' own transforms: resized to 256, the middle 224. On every fourth batch."""
    from torchvision import models  # benchmarks.data.vision has made it importable

    needs_the_sample()
    preset = models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    task = replace(tasks.load("imagenet_sample", "mobilenet_v1_0.75"), mean=tuple(preset.mean), std=tuple(preset.std))
    paths, _ = imagenet_sample.listed()
    pictures = Pictures(paths, centred(imagenet.SIDE, imagenet.RESIZE))
    for start in range(0, len(paths), 4 * 65):
        batch = slice(start, start + 65)
        ours = task.prepare(pictures[batch])
        theirs = torch.stack([preset(Image.open(path).convert("RGB")) for path in paths[batch]])
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_predictions_are_those_of_torchvisions_preprocessing() -> None:
    """The sample's images only need cutting: by torchvision's transforms of the same names each is the same.

    So are the predictions, image for image, of every fourth batch; the accuracy is of all.
    """
    folder = needs_the_sample()
    task = tasks.load("imagenet_sample", "mobilenet_v1_0.75")
    network, split = task.reference(), imagenet_sample.test_split()
    right = scoring.scores(network, split, task)
    assert (len(right["top-1"]), int(right["top-1"].sum())) == (1300, 1009)  # 77.62 %
    assert not (right["top-1"] & ~right["top-5"]).any() and 1009 < int(right["top-5"].sum()) < 1300
    theirs = transforms.Compose(
        [
            transforms.CenterCrop(224),
            transforms.PILToTensor(),
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    for number, start in enumerate(range(0, len(names), 65)):
        batch = slice(start, start + 65)
        reference = torch.stack([theirs(Image.open(folder / name).convert("RGB")) for name in names[batch]])
        torch.testing.assert_close(task.prepare(split.inputs[batch]), reference, rtol=0, atol=1e-6)
        if number % 4 == 0:
            assert torch.equal(right["top-1"][batch], network(reference).argmax(1) == split.targets[batch])
    assert torch.equal(decode(folder / names[5], centred(224)), split.inputs[5:6][0])


def test_an_image_above_the_limit_of_the_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with pytest.raises(TaskError, match=r"large\.png has more than 1,800 pixels, the limit of Pillow"):
        decode(tmp_path / "large.png", centred(8))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(24, "Too many open files"), "Too many open files"),
        (OSError(13, "Permission denied"), "Permission denied"),
        (MemoryError(), "memory is insufficient"),
    ],
)
def test_an_image_that_can_not_be_read_now_is_not_called_damaged(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(TaskError, match=rf"^can't read fine\.JPEG: {reason}$"):
        decode(Path("fine.JPEG"), centred(8))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["png", "jpeg", "gif", "tiff", "webp"])
def test_a_damaged_image_is_a_sentence_whatever_its_decoder_raises(form: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (24, 24, 3), np.uint8)).save(whole := tmp_path / f"whole.{form}")
    data = whole.read_bytes()
    refused = 0
    for _ in range(150):
        damaged = bytearray(data[: random.integers(1, len(data) + 1)])
        for place in random.integers(0, len(damaged), 4):
            damaged[place] = random.integers(256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            decode(tmp_path / "damaged", centred(8))
        except TaskError:
            refused += 1
    assert refused > 50
