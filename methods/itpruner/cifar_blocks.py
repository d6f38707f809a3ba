"""The paper's structure for CIFAR ResNets: one width for each block, and shortcuts that fit them, trained from scratch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.bitstream import blueprint
from benchmarks.bitstream.modules import avg_pool2d, batch_norm2d, conv2d, identity, linear, sequential
from benchmarks.evaluation import measure
from benchmarks.training import SGD, Recipe, fit
from benchmarks.training.control_variate import control
from benchmarks.training.scratch import initialise
from methods.families import finishing
from methods.families.budget import learning_rate
from methods.families.description import describe
from methods.families.grid import OnGrid
from methods.families.slim import Slim
from methods.families.structured import cost
from methods.families.structured.shortcuts import is_shortcut
from methods.interface import Compressed, Json, ModuleSpec, Run, Task
from methods.itpruner.config import Config
from methods.itpruner.polynomial import Polynomial


class Block(NamedTuple):
    """The two 3×3 convolutions of a block."""

    first: nn.Conv2d
    second: nn.Conv2d


def find(network: nn.Module) -> dict[str, Block]:
    """The blocks, by path, of a network that is a stem, such blocks with shortcuts, and a linear layer; else none."""
    found = {path: block for path, module in network.named_modules() if (block := _block(module))}
    convolutions = [path for path, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    inside = {f"{path}.{name}" for path in found for name in ("conv1", "conv2")}
    linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return found if set(convolutions[1:]) == inside and len(linears) == 1 else {}


def _block(module: nn.Module) -> Block | None:
    children = dict(module.named_children())
    if list(children) != ["conv1", "bn1", "conv2", "bn2", "shortcut"]:
        return None
    first, second, shortcut = children["conv1"], children["conv2"], children["shortcut"]
    if not isinstance(first, nn.Conv2d) or not isinstance(second, nn.Conv2d):
        return None
    fits = first.kernel_size == second.kernel_size == (3, 3)
    return Block(first, second) if fits and (isinstance(shortcut, nn.Identity) or is_shortcut(shortcut)) else None


def _ends(network: nn.Module) -> tuple[nn.Conv2d, str, nn.Linear]:
    """The stem, and the classifier with its path."""
    stem = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    return stem, *next((path, m) for path, m in network.named_modules() if isinstance(m, nn.Linear))


def polynomial(task: Task) -> Polynomial:
    """The paper's cost of the task's network, by the width of each block."""
    network = task.reference()
    found = find(network)
    layers = cost.measure(network, [], task.prepare(task.calibration(1).inputs)).layers
    widths = [block.second.out_channels for block in found.values()]
    sizes = [round((layers[f"{path}.conv2"].unit / 9) ** 0.5) for path in found]
    stem, _, classifier = _ends(network)
    return counted_as_published(widths, sizes, classifier.out_features, stem.out_channels)


def counted_as_published(widths: Sequence[int], sizes: Sequence[int], classes: int, stem: int) -> Polynomial:
    """The official code's cost of a CIFAR ResNet with one width for each block: of its two 3×3 convolutions.

    `widths` and `sizes` (height of the output) are those of the blocks, `stem` the width of the first convolution, which
    does not count. BatchNorm and ReLU count as 8 for each output of a block, and a 1×1 shortcut counts where the width changes.
    """
    found = Polynomial(widths)
    before = [stem, *widths[:-1]]
    for place, (inputs, width, size) in enumerate(zip(before, widths, sizes, strict=True)):
        source = place - 1 if place else None
        found.add(8 * width * size**2, place)
        found.add(9 * inputs * width * size**2, source, place)
        found.add(9 * width**2 * size**2, place, place)
        if inputs != width:
            found.add(inputs * width * size**2, source, place)
    found.add(2 * widths[-1] * classes, len(widths) - 1)
    return found


def structure(network: nn.Module, widths: Sequence[int]) -> dict[str, ModuleSpec]:
    """The modules of the network whose blocks have these widths.

    A shortcut is the identity, a 1×1 convolution with BatchNorm where the width changes, or, where a block has a stride, the
    mean of 2×2 pixels and a 1×1 convolution (official code).
    """
    stem, head, classifier = _ends(network)
    inputs, edits = stem.out_channels, dict[str, ModuleSpec]()
    for (path, block), width in zip(find(network).items(), widths, strict=True):
        stride = block.first.stride[0]
        edits[f"{path}.conv1"] = conv2d.spec(inputs, width, kernel_size=3, stride=stride, padding=1, bias=False)
        edits[f"{path}.conv2"] = conv2d.spec(width, width, kernel_size=3, padding=1, bias=False)
        edits |= {f"{path}.{name}": batch_norm2d.spec(width) for name in ("bn1", "bn2")}
        point = conv2d.spec(inputs, width, kernel_size=1, bias=False)
        if stride > 1:
            edits[f"{path}.shortcut"] = sequential.spec(avg_pool2d.spec(kernel_size=stride, stride=stride), point)
        elif inputs != width:
            edits[f"{path}.shortcut"] = sequential.spec(point, batch_norm2d.spec(width))
        else:
            edits[f"{path}.shortcut"] = identity.spec()
        inputs = width
    edits[head] = linear.spec(inputs, classifier.out_features)
    return edits


def counted(architecture: str, arguments: Mapping[str, Json], widths: Sequence[int], image: Sequence[int]) -> int:
    """Multiply-accumulates of the network with blocks of these widths, for images (C, H, W)."""
    dense = blueprint.skeleton(architecture, arguments, {}, {})
    network = blueprint.skeleton(architecture, arguments, structure(dense, widths), {})
    return measure.macs(network.eval(), torch.empty(1, *image, device="meta"))


class Point(NamedTuple):
    """An operating point: its label, the widths of the blocks, and notes."""

    label: dict[str, Json]
    widths: list[int]
    notes: dict[str, Json]


def trained(task: Task, config: Config, run: Run, chosen: Sequence[Point]) -> Iterator[Compressed]:
    """Each of the chosen points, trained from random weights (SGD with Nesterov momentum, a cosine)."""
    items = config.recalibrate if config.storage == "rdoq" else 0
    for point, epochs in zip(chosen, config.operating_points(run.budget), strict=True):
        slim = Slim(structure(task.reference(), point.widths))
        network = blueprint.skeleton(task.architecture, task.arguments, slim.edits, {})
        blueprint.allocate(network, {})
        stage = f"widths {point.widths}"
        initialise(network, run.generator("init", stage))
        optimiser = SGD(weight_decay=config.weight_decay, nesterov=True)
        recipe = Recipe(epochs, learning_rate(run.budget, config.lr), config.batch, optimiser)
        on_grid = OnGrid(network, config.bits) if config.storage == "uniform" else None
        fit(network, task, run, recipe, stage, None, on_grid)
        known = control(network, task, items)
        part = finishing.corrected_and_rounded(network, task, run, config.storage, config.bits, items, known)
        yield describe(task, network, slim, [part], point.label, {"widths": [*point.widths], **point.notes})
