"""Networks of random layers: the architecture, layers from a seed, centred inputs, and references of a read-out alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import networks, tasks
from benchmarks.errors import TaskError
from benchmarks.fingerprint import ROOT
from benchmarks.running import params, reference_training
from benchmarks.running.contents import tensors_hash
from benchmarks.running.recipes import Recipe
from benchmarks.tasks import digits_features, mnist_0_4, mnist_6_8, mnist_features
from benchmarks.tasks.kinds import trained
from benchmarks.training.readout import ROWS, in_batches

NAME = "500_500_500_s0"
RECIPE = Recipe("a test", epochs=2, lr=0.001, optimiser="adamw", weight_decay=0, milestones=(2.0,))


def test_layers_are_centred_and_scaled() -> None:
    """For inputs of unit length, features have the mean 0 and the length that falls by √(1/2 − 1/(2π)) with each layer."""
    network: Any = networks.build("random_features", {"widths": [50, 4000, 4000, 3]})
    generator = torch.Generator().manual_seed(0)
    for layer in network.layers:
        layer.weight.data.normal_(generator=generator)
    x = torch.nn.functional.normalize(torch.randn(20, 50, generator=generator))
    found = network.features(x)
    assert abs(float(found.sum(1).mean() / 4000**0.5)) < 0.03
    assert float(found.norm(dim=1).mean()) == pytest.approx(0.5 - 0.5 / math.pi, rel=0.05)
    assert [name for name, p in network.named_parameters() if p.requires_grad] == ["readout.weight"]
    torch.testing.assert_close(network(x), found @ network.readout.weight.T)


@pytest.mark.parametrize("widths", [[784, 10], [784, 0, 10], [784, 2**16, 10], [784, 1.5, 10], "784", None, [1] * 17])
def test_wrong_widths_are_refused(widths: Any) -> None:
    with pytest.raises(networks.NetworkError):
        networks.build("random_features", {"widths": widths})


def test_random_layers_are_the_same_on_every_machine() -> None:
    family = digits_features.FAMILY
    layers = family.layers(NAME)
    assert tensors_hash(layers) == tensors_hash(family.layers(NAME))
    assert [tuple(layer.shape) for layer in layers.values()] == [(500, 64), (500, 500), (500, 500)]
    assert layers["layers.1.weight"].flatten()[:3].tolist() == pytest.approx([0.06759, 0.030545, -0.218085], abs=1e-6)
    every = torch.cat([layer.flatten() for layer in layers.values()])
    assert abs(float(every.mean())) < 0.005 and float(every.std()) == pytest.approx(1, abs=0.005)
    seeds = [mnist_6_8.FAMILY.layers(f"500_500_500_s{seed}")["layers.0.weight"][0, 0].item() for seed in range(5)]
    assert len(set(seeds)) == 5


def test_a_reference_keeps_its_read_out_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong code that this finds: other random layers in training than in the reference, or a trained layer among them."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(trained, "path", lambda task, network: tmp_path / task / f"{network}.safetensors")
    monkeypatch.setattr(params, "recipe", lambda task, network: RECIPE)
    with pytest.raises(TaskError, match=r"not trained yet: `ratebench train digits_features 500_500_500_s0`"):
        tasks.load("digits_features", NAME).reference()
    assert digits_features.cached_reference(NAME) is None
    file = reference_training.train("digits_features", NAME, lambda _: None)
    kept = load_file(file)
    assert {name: tuple(tensor.shape) for name, tensor in kept.items()} == {"weight": (10, 500)}
    task = tasks.load("digits_features", NAME)
    network: Any = task.reference()
    assert torch.equal(network.readout.weight, kept["weight"])
    for name, tensor in digits_features.FAMILY.layers(NAME).items():
        assert torch.equal(network.state_dict()[name], tensor)
    with torch.no_grad():
        right = network(task.prepare(task.validation.inputs)).argmax(1) == task.validation.targets
    note = json.loads(file.with_suffix(".json").read_bytes())
    assert note["validation"]["top-1"] == pytest.approx(float(right.double().mean()))
    known = digits_features.cached_reference(NAME)
    assert known is not None and tensors_hash(known) == tensors_hash(network.state_dict())


def test_inputs_are_centred_by_the_training_items() -> None:
    task = tasks.load("digits_features", NAME)
    inputs = task.prepare(task.train.inputs).double()
    assert inputs.shape == (1197, 64)
    assert inputs.mean(0).abs().max() < 1e-6 and float(inputs.square().sum(1).mean()) == pytest.approx(1, abs=1e-6)
    images = task.train.inputs.flatten(1).double()
    spread = (images - images.mean(0)).square().sum(1).mean().sqrt()
    wanted = (task.validation.inputs.flatten(1) - images.mean(0)) / spread
    torch.testing.assert_close(task.prepare(task.validation.inputs).double(), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, ROWS - 1, ROWS, ROWS + 1, 1197])
def test_batches_make_the_whole(count: int) -> None:
    task = tasks.load("digits_features", NAME)
    inputs = task.train.inputs.repeat(2, 1, 1, 1)[:count]
    assert torch.equal(in_batches(lambda x: x, task, inputs), task.prepare(inputs))


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("module", "sizes", "classes"),
    [
        (mnist_features, (50_000, 10_000, 10_000), 10),
        (mnist_0_4, (25_000, 5_596, 5_139), 5),
        (mnist_6_8, (10_000, 1_769, 1_932), 2),
    ],
    ids=["0-9", "0-4", "6-8"],
)
def test_classes_of_mnist(module: Any, sizes: tuple[int, int, int], classes: int) -> None:
    task = module.task(next(iter(module.NETWORKS)))
    splits = (task.train, task.validation, module.FAMILY.load_test())
    assert tuple(map(len, splits)) == sizes and (sizes[0], sizes[2]) == module.ITEMS
    for split in splits:
        assert split.targets.unique().tolist() == list(range(classes))
    inputs = task.prepare(task.train.inputs)
    assert float(inputs.square().sum(1).mean()) == pytest.approx(1, abs=1e-4)
    rows = [{image.numpy().tobytes() for image in split.inputs} for split in splits[:2]]
    assert len(rows[0] & rows[1]) < 5
