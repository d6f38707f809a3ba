"""Scoring and measuring leave a network as it was, so that it can be trained afterwards: with bf16 and without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_training import Bench
from torch import Tensor, nn

from benchmarks import networks, registry, tasks
from benchmarks.errors import MethodError
from benchmarks.evaluation import measure, scoring, shards, work
from benchmarks.tasks.kinds.classification import ClassificationTest
from benchmarks.training import Recipe, fit, loop
from methods.interface import Augmentation, Split

ITEMS = 9
# name: arguments, shape of an image
NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "digits_cnn": ({"width": 8}, (1, 8, 8)),
    "digits_resnet": ({"width": 8, "blocks": 1}, (1, 8, 8)),
    "cifar_densenet": ({"depth": 40}, (3, 32, 32)),
    "cifar_preact_resnet": ({"depth": 20}, (3, 32, 32)),
    "cifar_resnet": ({"depth": 20}, (3, 32, 32)),
    "cifar_vgg": ({"depth": 16}, (3, 32, 32)),
    "lenet5": ({}, (1, 28, 28)),
    "mlp": ({"widths": [64, 16, 10]}, (1, 8, 8)),
    "random_features": ({"widths": [64, 16, 12, 10]}, (1, 8, 8)),
    "mobilenet_v1": ({"width": 0.25, "classes": 10}, (3, 32, 32)),
    "mobilenet_v2": ({"classes": 10}, (3, 32, 32)),
    "resnet": ({"depth": 18, "classes": 10}, (3, 32, 32)),
    "vgg": ({"depth": 11, "classes": 10, "norm": True}, (3, 32, 32)),
}

PICTURES = {"sine", "picture"}  # networks of coordinates: test_kodak.py tries them


class Volumes(nn.Sequential):
    """A 5-D kernel, a tied weight, a buffer in fp64, a frozen parameter, and a part that is in another mode than the rest."""

    def __init__(self) -> None:
        first, second = nn.Linear(64, 64), nn.Linear(64, 64)
        second.weight = first.weight
        layers = [nn.Unflatten(1, (1, 1)), nn.Conv3d(1, 1, 1), nn.Flatten(), first, second, nn.BatchNorm1d(64)]
        super().__init__(*layers, nn.Dropout(), nn.Linear(64, 10))
        self.register_buffer("steps", torch.zeros(2, 2, 2, 2, dtype=torch.float64))
        self[3].bias.requires_grad_(False)
        self[6].eval()


def made(name: str) -> tuple[nn.Module, Split, Any]:
    """A network in training mode, `ITEMS` images, and their task."""
    arguments, shape = NETWORKS.get(name, ({}, (1, 8, 8)))
    generator = torch.Generator().manual_seed(0)
    if name in NETWORKS:
        with torch.device("meta"):  # VGG draws its 10⁸ weights for a second
            network = networks.build(name, arguments).train()
        network.to_empty(device="cpu")
    else:
        network = Volumes()
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            parameter.data.uniform_(-0.05, 0.05, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    images = torch.randint(256, (ITEMS, *shape), generator=generator).to(torch.uint8)
    split = Split(images, torch.arange(ITEMS) % 10)
    task: Any = replace(
        tasks.load("digits", "digits_cnn"),  # type: ignore[type-var]
        load_splits=lambda: (split, split),
        augmentation=Augmentation(),
    )
    return network, split, task


def traits(network: nn.Module) -> dict[str, Any]:
    """All that scoring might change."""
    found: dict[str, Any] = {"modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled())}
    for name, module in network.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        found[f"module {name}"] = (module.training, [list(known) for known in hooks])
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        place = (id(tensor), tensor.data_ptr(), tensor.stride(), tensor.device, tensor.dtype)
        kind = (tensor.is_inference(), tensor.requires_grad, tensor.is_leaf, tensor.grad)
        found[f"tensor {name}"] = (place, kind, float(tensor.detach().sum()), float(tensor.detach().abs().max()))
    return found


def test_every_architecture_is_tried() -> None:
    assert set(registry.names("benchmarks.networks")) == set(NETWORKS) | PICTURES


USES: dict[str, Callable[[nn.Module, Split, Any], Any]] = {
    "scores": lambda network, split, task: scoring.scores(network, split, task),
    "total": lambda network, split, task: scoring.total_score(network, split, task, range(3, 5)),
    "shards": lambda network, split, task: shards.scored(
        network, ClassificationTest(task, lambda: split, (1, 8, 8), ITEMS), 0, 1, None, ""
    ),
    "macs": lambda network, split, task: measure.macs(network, task.prepare(split.inputs[:1])),
    "activation": lambda network, split, task: work.followed(network, task.prepare(split.inputs[:1])).largest,
    "latency": lambda network, split, task: measure.latency_ms(network, task.prepare(split.inputs[:1]), 2, 0.0),
    "elements": lambda network, split, task: measure.elements(network),
}


@pytest.mark.parametrize("name", [*NETWORKS, "volumes"])
def test_a_network_is_as_it_was_and_can_be_trained(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, split, task = made(name)
    before = traits(network)
    for use, called in USES.items():
        called(network, split, task)
        assert traits(network) == before, use
    for fast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            outputs = network(task.prepare(split.inputs[:2]))
        outputs.float().square().mean().backward()
    if name.startswith("digits"):
        for fast in (False, True):
            monkeypatch.setattr(loop, "bf16_is_fast", lambda device, fast=fast: fast)
            fit(network, task, Bench(), Recipe(0.01, 0.01, batch=8), f"bf16: {fast}")


@pytest.mark.parametrize("use", USES)
def test_a_network_that_fails_is_as_it_was(use: str) -> None:
    network, split, task = made("digits_cnn")
    before = traits(network)
    wrong = Split(split.inputs.expand(-1, 3, -1, -1), split.targets)
    if use != "elements":
        with pytest.raises(RuntimeError, match="channels"):
            USES[use](network, wrong, task)
    assert traits(network) == before


def test_the_mode_of_the_caller_changes_no_score() -> None:
    """Neither training mode, which would use a batch's own statistics, nor autocast; and the caller may go on training."""
    network, split, task = made("digits_resnet")
    expected = scoring.total_score(network.eval(), split, task)
    network.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert scoring.total_score(network, split, task) == expected
        loss = nn.functional.cross_entropy(network(task.prepare(split.inputs)), split.targets)
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    seen: list[tuple[bool, bool]] = []
    network.register_forward_hook(
        lambda module, _, output: seen.append((module.training, output.dtype == torch.float32))
    )
    with torch.autocast("cpu", torch.bfloat16):
        scoring.scores(network, split, task)
    assert set(seen) == {(False, True)}


@pytest.mark.parametrize("fast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("around", [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_training_is_the_same_within_any_mode_of_the_caller(
    around: Callable[[], Any], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An autocast around it must not keep the first step's weights."""
    monkeypatch.setattr(loop, "bf16_is_fast", lambda device: fast)
    plain, _, task = made("digits_cnn")
    fit(plain, task, Bench(), Recipe(1, 0.05, batch=16), "stage")
    network, *_ = made("digits_cnn")
    with around():
        fit(network, task, Bench(), Recipe(1, 0.05, batch=16), "stage")
    for name, tensor in plain.state_dict().items():
        found: Tensor = network.state_dict()[name]
        assert torch.equal(found, tensor) and not found.is_inference(), name


def test_a_network_that_can_not_be_trained_is_a_sentence() -> None:
    with torch.inference_mode():
        network, _, task = made("digits_cnn")
    with pytest.raises(MethodError, match=r"'stage': the network was made in torch\.inference_mode, so it can't be"):
        fit(network, task, Bench(), Recipe(1, 0.05), "stage")
