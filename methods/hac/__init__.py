"""Huffman-coded matrices of pruned weights that share values (Marinò et al., ICPR 2020 and arXiv 2021).

Weights below a percentile of their layer are removed, and the others share few values, over all dense and over all
convolutional layers. Each matrix is stored in the shortest of several formats that allow products without decompression.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, cast

import numpy as np
from msgspec import Meta
from torch import Tensor, nn

from benchmarks.bitstream import blueprint
from benchmarks.errors import MethodError
from benchmarks.training import SGD, Multistep, Recipe, control_variate, fit
from methods.families import storage
from methods.families.budget import learning_rate, trains
from methods.families.description import describe
from methods.families.generated import Generated
from methods.families.limits import Count, Images, Positive
from methods.families.slim import Slim
from methods.hac.coding import CODECS as OWN_CODECS
from methods.hac.coding import LARGEST_DICTIONARY, part
from methods.hac.layers import KINDS, Kind, Scope, Source, fill, groups_of, kept, sources, weights
from methods.hac.modules import MODULES as OWN_MODULES
from methods.hac.notes import notes
from methods.hac.resident import resident
from methods.hac.sharing import Rule
from methods.interface import Budget, Card, Codec, Compressed, DecoderModule, Run, Task

CARD = Card(
    key="hac",
    title="Compact Representations of Convolutional Neural Networks via Weight Pruning and Quantization",
    authors=("Giosuè Cataldo Marinò", "Alessandro Petrini", "Dario Malchiodi", "Marco Frasca"),
    venue="arXiv",
    year=2021,
    families=("quantisation", "unstructured pruning", "entropy coding"),
    fidelity="reconstruction",
    budgets=("post-training", "short", "paper"),
    arxiv="2108.12704",
    code="https://github.com/giosumarin/sHAM",
    note="From the full text of the authors' first paper (ICPR 2020), the abstract of this one, and the official codes.",
)
CODECS = cast("dict[str, Codec]", OWN_CODECS)
MODULES = cast("dict[str, DecoderModule]", OWN_MODULES)
Percentile: TypeAlias = Annotated[float, Meta(ge=0, lt=100)]
Values: TypeAlias = Annotated[int, Meta(ge=0, le=LARGEST_DICTIONARY)]


@dataclass(frozen=True)
class Config:
    """`points` are (percentile, k of dense layers, percentile, k of convolutions), one operating point each.

    A percentile of 0 prunes nothing; a k of 0 leaves every weight its own value. `rule` is that of the shared values
    (`sharing`), which are those of all layers of a kind or, with the `scope` "layer", of one layer. With `memory` "compressed",
    the decoded network computes with linear layers in HAC or sHAC. Training first changes the weights that pruning keeps
    (`prune_epochs` at the `paper` budget), then the shared values (`epochs`), with `cumulative` times the learning rate; of a
    budget's epochs, each has half. Without training, BatchNorm is corrected by `recalibrate` unlabelled images.
    """

    points: tuple[tuple[Percentile, Values, Percentile, Values], ...] = (
        (0, 256, 0, 256),
        (40, 128, 40, 128),
        (60, 64, 60, 64),
        (70, 32, 70, 32),
        (80, 32, 80, 32),
    )
    rule: Rule = "cws"
    scope: Scope = "unified"
    memory: Literal["dense", "compressed"] = "dense"
    recalibrate: Images = 500
    lr: Positive = 0.001
    cumulative: Positive = 0.001
    batch: Count = 128
    prune_epochs: Count = 100
    epochs: Count = 30

    def __post_init__(self) -> None:
        if not self.points or len(set(self.points)) < len(self.points):
            raise ValueError("points needs at least one entry, and each entry once")
        if not all(any(point) for point in self.points):
            raise ValueError("points has an entry without a percentile or k above 0: it neither prunes nor shares")
        if self.memory == "compressed" and not all(point[1] for point in self.points):
            raise ValueError("points needs a k of dense layers in each entry, because memory is 'compressed'")

    @property
    def random(self) -> bool:
        """Whether values are drawn."""
        return self.rule == "pws"

    def operating_points(self, budget: Budget) -> list[float]:
        return [sum(self.stages(budget, point)) for point in self.points]

    def stages(self, budget: Budget, point: tuple[float, int, float, int]) -> tuple[float, float]:
        """Epochs (after pruning, of shared values) of a point."""
        if not trains(budget):
            return 0.0, 0.0
        prunes, shares = point[0] > 0 or point[2] > 0, point[1] > 0 or point[3] > 0
        if budget.epochs is None:
            return self.prune_epochs * float(prunes), self.epochs * float(shares)
        return budget.epochs * prunes / (prunes + shares), budget.epochs * shares / (prunes + shares)


def unsupported(task: Task, config: Config) -> str | None:
    """Why a point changes nothing, in one sentence; None if each one prunes or shares something."""
    try:
        found = weights(blueprint.skeleton(task.architecture, task.arguments, {}, {}))
    except MethodError as error:
        return str(error)
    if config.memory == "compressed" and not found["dense"]:
        return f"{task.architecture} has no linear layer that could stay compressed in memory"
    for point in config.points:
        if not any(found[kind] and any(_of(point, kind)) for kind in KINDS):
            return (
                f"{task.architecture} has no layer of the kind that the point {list(point)} prunes or shares values in"
            )
    return None


def _of(point: tuple[float, int, float, int], kind: Kind) -> tuple[float, int]:
    """(percentile, k) of a kind of layers."""
    return (point[0], point[1]) if kind == "dense" else (point[2], point[3])


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per entry of `points`: pruned and trained, then shared and trained, then stored."""
    storage.check_names(task)
    items = 0 if trains(run.budget) else config.recalibrate
    known = control_variate.control(task.reference(), task, items)
    for point in config.points:
        label = " ".join(map(str, point))
        network = task.reference()
        names = weights(network)
        masks: dict[str, Tensor] = {}
        for kind in KINDS:
            if (percentile := _of(point, kind)[0]) > 0:
                masks |= kept(network, names[kind], percentile)
        after_pruning, of_values = config.stages(run.budget, point)
        if after_pruning:
            fit(network, task, run, _recipe(config, run.budget, after_pruning), f"pruned {label}", masks)
        found: dict[str, Source] = {}
        for kind in KINDS:
            if (most := _of(point, kind)[1]) > 0 and names[kind]:
                groups = groups_of(names[kind], config.scope)
                seed = run.generator("values", label, kind).initial_seed()
                found |= sources(network, groups, config.rule, most, np.random.default_rng(seed))
        if of_values:
            _fit_values(network, found, masks, task, config, run, of_values, f"shared {label}")
        fill(network, found)
        control_variate.correct(network, task, items, known)
        coded = storage.matrices(storage.tensors(network))
        numbers = _groups(list(coded), names, config.scope)
        slim, parts, stored = Slim(), [], None
        if config.memory == "compressed":
            slim, parts, stored = resident(network, {name: numbers[name] for name in names["dense"]})
            coded = {name: values for name, values in coded.items() if name not in names["dense"]}
        if coded:
            parts.append(part(list(coded), list(coded.values()), [numbers[name] for name in coded]))
        said = notes(network, names, config.scope, stored)
        labels = dict(zip(("dense_pruned", "dense_values", "conv_pruned", "conv_values"), point, strict=True))
        yield describe(task, slim.realise(task, network), slim, parts, labels, said)


def _fit_values(
    network: nn.Module,
    found: Mapping[str, Source],
    masks: Mapping[str, Tensor],
    task: Task,
    config: Config,
    run: Run,
    epochs: float,
    stage: str,
) -> None:
    """Train the shared values, and all other parameters of the network. Pruned weights without shared values stay zero."""
    generated = Generated(network, found)
    rest = {f"network.{name}": mask for name, mask in masks.items() if name not in found}
    recipe = _recipe(config, run.budget, epochs)
    values = list(dict.fromkeys(source.values for source in found.values()))
    group = {"params": values, "lr": config.cumulative * recipe.lr, "weight_decay": 0.0}
    fit(generated, task, run, recipe, stage, rest, None, [group])


def _groups(coded: list[str], names: Mapping[Kind, list[str]], scope: Scope) -> dict[str, int]:
    """The number of each weight's group: with the values it shares; weights of other modules have one each."""
    shared = [group for kind in KINDS for group in groups_of(names[kind], scope)]
    known = {name: number for number, group in enumerate(shared) for name in group}
    return {name: known.get(name, len(shared) + place) for place, name in enumerate(coded)}


def _recipe(config: Config, budget: Budget, epochs: float) -> Recipe:
    """Constant learning rate at the `paper` budget."""
    if budget.epochs is None:
        return Recipe(epochs, config.lr, config.batch, SGD(weight_decay=0.0, nesterov=True), Multistep(()))
    return Recipe(epochs, learning_rate(budget, config.lr), config.batch, SGD(nesterov=True))
