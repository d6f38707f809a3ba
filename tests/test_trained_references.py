"""References that are trained here: recipes, resuming, provenance, and the data of regressions and of MNIST."""

from __future__ import annotations

import gzip
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from benchmarks import cli, networks, storage, tasks, training
from benchmarks.data import idx
from benchmarks.errors import RateBenchError, TaskError, UnknownName
from benchmarks.fingerprint import ROOT
from benchmarks.running import params, recipes, reference_training
from benchmarks.running.contents import tensors_hash
from benchmarks.running.recipes import Recipe
from benchmarks.running.speed import Speed
from benchmarks.tasks import california, diabetes, mnist
from benchmarks.tasks.kinds import trained

SHORT = {"source": "a test", "epochs": 3, "lr": 0.01, "batch": 32, "optimiser": "adamw"}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """References are kept in an empty folder, and `diabetes` has a short recipe."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(
        trained, "path", lambda task, network: tmp_path / "references" / task / f"{network}.safetensors"
    )
    monkeypatch.setattr(params, "recipe", lambda task, network: Recipe(**SHORT) if task == "diabetes" else None)
    return tmp_path


def test_a_reference_is_trained_once_and_says_how(elsewhere: Path) -> None:
    """Wrong code that this finds: weights of another recipe under the same name, or a file without its origin."""
    said: list[str] = []
    with pytest.raises(
        TaskError, match=r"the reference mlp of diabetes is not trained yet: `ratebench train diabetes mlp`"
    ):
        tasks.load("diabetes", "mlp").reference()
    assert diabetes.cached_reference("mlp") is None
    file = reference_training.train("diabetes", "mlp", said.append)
    task = tasks.load("diabetes", "mlp")
    network = task.reference()
    note = json.loads(file.with_suffix(".json").read_bytes())
    assert note["recipe"]["epochs"] == 3 and note["tensors"] == tensors_hash(network.state_dict())
    with torch.no_grad():
        outputs = network(task.prepare(task.validation.inputs))
    error = (outputs * diabetes.SPREAD + diabetes.CENTRE - task.validation.targets).double().square().mean()
    assert note["validation"] == {"mse": pytest.approx(float(error), rel=1e-5)}
    assert note["commit"] and note["versions"]["torch"] == torch.__version__
    assert not [*elsewhere.rglob("*.pt")], "no checkpoint stays"
    before = file.read_bytes()
    reference_training.train("diabetes", "mlp", said.append)
    assert file.read_bytes() == before and "trained already" in said[-1]


def test_training_goes_on_from_the_last_epoch(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = reference_training.train("diabetes", "mlp", lambda _: None).read_bytes()
    trained.path("diabetes", "mlp").unlink()
    epochs: list[str] = []

    def interrupt(message: str) -> None:
        epochs.append(message)
        if len(epochs) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reference_training.train("diabetes", "mlp", interrupt)
    assert not trained.path("diabetes", "mlp").exists()
    assert reference_training.train("diabetes", "mlp", epochs.append).read_bytes() == whole
    assert [message.partition("epoch ")[2][:3] for message in epochs[:-1]] == ["1/3", "2/3", "2/3", "3/3"]
    assert epochs[-1] == f"diabetes, mlp: trained, {trained.path('diabetes', 'mlp')}"


def test_the_plan_tells_what_is_to_be_trained_first(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference_training, "speed", lambda *_: Speed(forward=1e6, training=0.1))
    hours = reference_training.hours("diabetes", "mlp")
    assert hours == pytest.approx(3 * diabetes.SIZES[0] / 0.1 / 3600)
    assert reference_training.hours("digits", "digits_cnn") is None, "it has no recipe"
    plan = replace(params.suite("digits"), task="diabetes", networks=["mlp"], methods=["reference"])
    monkeypatch.setattr(params, "suite", lambda _: plan)
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit), monkeypatch.context() as patch:
        patch.setattr("sys.argv", ["ratebench", "plan", "digits"])
        cli.main()
    out = capsys.readouterr().out
    assert "references/diabetes/mlp" in out and "to train first: `ratebench train diabetes mlp`" in out
    reference_training.train("diabetes", "mlp", lambda _: None)
    assert reference_training.hours("diabetes", "mlp") is None


def test_each_reference_has_its_own_beginning() -> None:
    first, again, other = (
        reference_training.initial(california.task(name)).state_dict() for name in ("mlp_00", "mlp_00", "mlp_01")
    )
    assert tensors_hash(first) == tensors_hash(again) != tensors_hash(other)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"mnits": {}}, "unknown task 'mnits'"),
        ({"mnist": {"lenet": SHORT}}, "unknown network of task 'mnist' 'lenet'"),
        ({"mnist": {"lenet_300_100": SHORT | {"learning_rate": 1}}}, "unknown field 'learning_rate'"),
        ({"mnist": {"lenet_300_100": SHORT | {"epochs": 0}}}, "here, mnist, lenet_300_100: Expected `int` >= 1"),
        ({"mnist": {"lenet_300_100": {"epochs": 1, "lr": 1}}}, "missing required field `source`"),
        ({"mnist": []}, "here, mnist: Expected `object`"),
    ],
)
def test_a_wrong_recipe_is_a_sentence(entry: Any, reason: str) -> None:
    with pytest.raises((UnknownName, RateBenchError), match=reason):
        recipes.checked(entry, "here")


def test_a_name_goes_before_a_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    found = recipes.checked({"california": {"mlp_*": SHORT, "mlp_03": SHORT | {"epochs": 7}}}, "here")
    assert [getattr(recipes.of(found, "california", f"mlp_0{i}"), "epochs", None) for i in (2, 3)] == [3, 7]
    assert recipes.of(found, "california", "other") is None and recipes.of(found, "mnist", "lenet5") is None
    monkeypatch.chdir(ROOT)
    with pytest.raises(RateBenchError, match=r"mnist, lenet5: params\.yaml has no recipe for it"):
        reference_training.train("mnist", "lenet5", lambda _: None)


def test_recipes_become_those_of_the_loop() -> None:
    steps = Recipe(
        "", epochs=30, lr=0.1, milestones=(6.0, 11.0), warmup=(0.1, 0.2), nesterov=True, weight_decay=0.0
    ).made()
    assert [steps.factor(epoch) for epoch in (0, 1, 2, 8, 13)] == pytest.approx([0.1, 0.2, 1, 0.1, 0.01])
    assert steps.optimiser == training.SGD(0.9, 0.0, nesterov=True)
    cosine = Recipe("", epochs=11, lr=0.1, optimiser="adamw", warmup=(0.5,)).made()
    assert [cosine.factor(epoch) for epoch in (0, 1, 6, 11)] == pytest.approx([0.5, 1, 0.5, 0])
    assert cosine.optimiser == training.AdamW(5e-4) and (cosine.epochs, cosine.batch) == (11, 128)


@pytest.mark.parametrize("file", sorted((ROOT / "results" / "references").rglob("*.safetensors")), ids=lambda f: f.stem)
def test_committed_references_are_those_of_their_notes(file: Path) -> None:
    """Trained by committed code and the recipe that params.yaml has now, small enough for the repository."""
    task, network = file.parent.name, file.stem
    note = json.loads(file.with_suffix(".json").read_bytes())
    assert note["dirty"] is False and file.stat().st_size < 2 << 20
    state = storage.load_tensors(file)
    assert note["tensors"] == tensors_hash(state)
    known = recipes.of(recipes.checked(params.strict_yaml.read(ROOT / "params.yaml")["references"], ""), task, network)
    assert known is not None and known == msgspec.convert(note["recipe"], type(known))
    tasks.load(task, network).reference()


def test_regression_shows_targets_in_their_own_unit() -> None:
    task = tasks.load("diabetes", "mlp")
    outputs, targets = torch.tensor([[0.0], [1.0]]), torch.tensor([[152.0], [152.0]])
    assert task.scores(outputs, targets)["mse"].tolist() == pytest.approx([0.0, 77.0**2])
    assert float(task.loss(outputs, targets)) == pytest.approx(0.5)
    assert sum(diabetes.SIZES) == 442 and [len(s) for s in (task.train, task.validation)] == [*diabetes.SIZES[:2]]
    assert task.train.targets.mean() == pytest.approx(152, abs=3) and task.train.targets.std() == pytest.approx(
        77, abs=3
    )
    inputs = task.prepare(task.train.inputs)
    assert inputs.mean(0).abs().max() < 0.2 and (inputs.std(0) - 1).abs().max() < 0.15


@pytest.mark.mirror
def test_california_is_normalised_by_its_training_items() -> None:
    task = tasks.load("california", "mlp_00")
    sizes = [len(split) for split in (task.train, task.validation, california.test_split())]
    assert tuple(sizes) == california.SIZES
    inputs = task.prepare(task.train.inputs).double()
    assert inputs.mean(0).abs().max() < 1e-3 and (inputs.std(0) - 1).abs().max() < 1e-3
    targets = task.train.targets
    assert targets.mean() == pytest.approx(california.CENTRE, abs=1e-3)
    assert targets.std() == pytest.approx(california.SPREAD, abs=1e-3) and targets.max() == pytest.approx(5.00001)


@pytest.mark.mirror
def test_california_has_the_features_of_scikit_learn() -> None:
    """Of the first district, as its documentation and examples print them."""
    expected = [8.3252, 41.0, 6.98412698, 1.02380952, 322.0, 2.55555556, 37.88, -122.23]
    rows = torch.cat([split.inputs for split in california._splits()])
    (place,) = (rows - torch.tensor(expected)).abs().lt(1e-3).all(1).nonzero()[:, 0].tolist()
    targets = torch.cat([split.targets for split in california._splits()])
    assert float(targets[place]) == pytest.approx(4.526)


def test_the_table_comes_from_the_archive_or_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong code that this finds: `fetch` for the archive alone, and a damaged table that is passed over without a word."""
    mirror, archive = tmp_path / "mirror", tmp_path / "cal_housing.tgz"
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RATEBENCH_MIRROR", str(mirror))
    (mirror / "CaliforniaHousing").mkdir(parents=True)
    (mirror / "CaliforniaHousing" / "cal_housing.data").write_text("1,2\n")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(mirror / "CaliforniaHousing", "CaliforniaHousing")
    assert california.files() == [california.ARCHIVE]
    monkeypatch.setattr(california.download, "fetch", lambda file: archive)
    assert california._text() == (str(archive), b"1,2\n")
    monkeypatch.undo()
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RATEBENCH_MIRROR", str(mirror))
    table = mirror / california.TABLE.name
    table.parent.mkdir()
    table.write_text("1,2\n")
    assert california.files() == [california.TABLE]
    with pytest.raises(TaskError, match=r"the mirror's .*cal_housing\.data has hash"):
        california._text()


ROWS = "1,2,3,4,5,6,7,8,9\n" * 20_640


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (ROWS.replace(",9\n", "\n"), "has 20,640 rows of 8 columns, not 20,640 of 9"),
        (ROWS[: len(ROWS) // 2], "has 10,320 rows of 9 columns"),
        (ROWS[:-4] + "\n", "is no table of numbers"),
        (ROWS.replace("7", "seven", 1), "is no table of numbers"),
        (ROWS.replace("9\n", "nan\n", 1), "no finite number in row 1"),
        (ROWS, "other values than the official table"),
        ("", "has 0 rows"),
    ],
    ids=["column", "rows", "cut", "word", "nan", "values", "empty"],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_a_wrong_table_is_a_sentence(data: str, reason: str) -> None:
    with pytest.raises(TaskError, match=f"^there .*{reason}"):
        california.table(data.encode(), "there")


def written(path: Path, header: bytes, data: bytes) -> Path:
    path.write_bytes(gzip.compress(header + data))
    return path


def test_idx_files_are_read_whole_or_not_at_all(tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.uint8).tobytes()
    good = written(tmp_path / "good.gz", struct.pack(">HBB3I", 0, 8, 3, 2, 3, 4), images)
    assert idx.read(good, 2, 3, 4).tolist() == np.arange(24).reshape(2, 3, 4).tolist()
    for name, header, data in (
        ("short", struct.pack(">HBB3I", 0, 8, 3, 2, 3, 4), images[:-1]),
        ("long", struct.pack(">HBB3I", 0, 8, 3, 2, 3, 4), images + b"1"),
        ("floats", struct.pack(">HBB3I", 0, 13, 3, 2, 3, 4), images),
        ("turned", struct.pack(">HBB3I", 0, 8, 3, 2, 4, 3), images),
        ("empty", b"", b""),
    ):
        with pytest.raises(TaskError, match="does not hold 2 × 3 × 4 bytes in the IDX format"):
            idx.read(written(tmp_path / name, header, data), 2, 3, 4)
    cut = tmp_path / "cut.gz"
    cut.write_bytes(good.read_bytes()[:-12])
    plain = tmp_path / "plain"
    plain.write_bytes(images)
    for path in (cut, plain):
        with pytest.raises(TaskError, match="is damaged or no gzip file"):
            idx.read(path, 2, 3, 4)


@pytest.mark.mirror
def test_mnist_and_its_public_checkpoint() -> None:
    """98.96 % on the test images, as published."""
    task = tasks.load("mnist", "lenet5")
    assert (len(task.train), len(task.validation), len(mnist.test_split())) == (55_000, 5_000, 10_000)
    assert task.reference_values == 431_080
    with torch.no_grad():
        outputs: Tensor = task.reference()(task.prepare(mnist.test_split().inputs))
    assert int(task.scores(outputs, mnist.test_split().targets)["top-1"].sum()) == 9896


def test_a_perceptron_has_layers_between_its_widths() -> None:
    network = networks.build("mlp", {"widths": [784, 300, 100, 10]})
    assert sum(p.numel() for p in network.parameters()) == 266_610
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    for widths in ([784], [784, 0], [784, 2**16], [784, 1.5], [784, True], "784", None, [1] * 17):
        with pytest.raises(networks.NetworkError):
            networks.build("mlp", {"widths": widths})
