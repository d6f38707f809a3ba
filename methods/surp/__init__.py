"""SuRP: successive refinement for pruning (Isik, Weissman and No, AISTATS 2022), with a decodable file.

All parameters of a network, each tensor divided by its norm, form one source of magnitudes. The coder repeatedly sends
coordinates whose residual exceeds a threshold, encoder and decoder add that threshold, and the threshold decreases. Large
weights are refined first. Most weights are never refined and stay zero: this prunes. Any prefix of a pass decodes to a network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import torch
from msgspec import Meta
from torch import Tensor, nn

from benchmarks.bitstream import blueprint
from benchmarks.bitstream.codecs import raw
from benchmarks.training import Multistep, Recipe, control_variate, fit
from methods.families import storage
from methods.families.budget import epochs_per_point, learning_rate, trains
from methods.families.limits import Images, Share, check_order
from methods.interface import Budget, Card, Codec, Compressed, Part, Run, Task
from methods.surp import rounds, sequential
from methods.surp.source import FLOOR, Norm, normalise

CARD = Card(
    key="surp",
    title="An Information-Theoretic Justification for Model Pruning",
    authors=("Berivan Isik", "Tsachy Weissman", "Albert No"),
    venue="AISTATS",
    year=2022,
    families=("pruning", "entropy coding"),
    fidelity="reconstruction",
    budgets=("post-training", "short", "paper"),
    arxiv="2102.08329",
    code="https://github.com/BerivanIsik/SuRP",
    note="The paper's text was not available. Sources: a co-author's lecture notes and the official code (MIT).",
)
CODECS = {"sequential": cast(Codec, sequential), "rounds": cast(Codec, rounds)}


# Settings of the official code for ResNet-20.
REFRESH_DECAY, ROUND_DECAY = 0.9, 0.95
PAPER_SPARSITIES = tuple(round(1 - 0.8**k, 4) for k in range(1, 23))
LEARNING_RATE, RETRAIN_EPOCHS, RETRAIN_MILESTONES = 0.01, 20, (15,)
RESIDUAL = 0.02


@dataclass(frozen=True)
class Config:
    """The algorithm's defaults are those of the official code for ResNet-20, except for exact means (README.md).

    `mode` refines one coordinate at a time, as published, or all coordinates of a round. `alpha` is the first threshold in
    units of the mean magnitude. It is multiplied by REFRESH_DECAY when no candidate is left (sequential), or by ROUND_DECAY
    after each round. `sparsities` are the points of the post-training curve, `short_sparsities` the rounds of pruning and
    retraining at the `short` budget, PAPER_SPARSITIES those at the `paper` budget. A retrained network is coded until its
    mean residual is RESIDUAL of its mean magnitude. `recalibrate` is the number of unlabelled images by which BatchNorm's
    statistics are corrected without training (0: they are not, as published).
    """

    mode: Literal["sequential", "rounds"] = "sequential"
    normalise: Norm = "l2"
    alpha: Annotated[float, Meta(gt=0, le=1000)] = 10.0
    sparsities: tuple[Share, ...] = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98)
    short_sparsities: tuple[Share, ...] = (0.8, 0.9, 0.95, 0.98, 0.99)
    recalibrate: Images = 0

    def __post_init__(self) -> None:
        check_order("sparsities", self.sparsities)
        check_order("short_sparsities", self.short_sparsities)

    @property
    def random(self) -> bool:
        """Whether post-training results depend on the seed: the order in which steps visit the coordinates does."""
        return self.mode == "sequential"

    def rounds(self, budget: Budget) -> tuple[float, ...]:
        """The sparsities at a budget, one operating point each."""
        if not trains(budget):
            return self.sparsities
        return PAPER_SPARSITIES if budget.epochs is None else self.short_sparsities

    def operating_points(self, budget: Budget) -> list[float]:
        return epochs_per_point(budget, len(self.rounds(budget)), RETRAIN_EPOCHS)


def unsupported(task: Task, config: Config) -> str | None:
    """None: every network is supported."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """Post-training: one pass over the reference, truncated at each sparsity. With training: one round of retraining each."""
    storage.check_names(task)
    if not trains(run.budget):
        known = control_variate.control(task.reference(), task, config.recalibrate)
        points = _coded(task.reference(), config, run, config.sparsities)
        curve: Iterator[tuple[float, nn.Module, Part]] = (
            (s, _corrected(task, config, part, known), part) for s, part in points
        )
    else:
        curve = _retrained(task, config, run)
    for sparsity, network, part in curve:
        statistics = _statistics(network, part.targets)
        parts = (part, statistics) if statistics else (part,)
        yield Compressed(task.architecture, task.arguments, parts, {"sparsity": sparsity})


def _corrected(task: Task, config: Config, part: Part, known: control_variate.Control) -> nn.Module:
    """The network whose BatchNorm statistics are stored: the reference, or the network that the decoder builds from `part`."""
    network = task.reference()
    if config.recalibrate:
        storage.fill(network, [part])
        control_variate.correct(network, task, config.recalibrate, known)
    return network


def _coded(
    network: nn.Module, config: Config, run: Run, sparsities: Sequence[float], floor: float = FLOOR
) -> list[tuple[float, Part]]:
    """(sparsity, part with all parameters), highest rate first; if a pass ends early, its end is the last point."""
    tensors = {name: p.detach().cpu().numpy() for name, p in network.named_parameters()}
    names = sorted(tensors, key=lambda name: tensors[name].size)  # similar sizes are adjacent: see rounds.py
    sizes = [tensors[name].size for name in names]
    source = normalise([tensors[name] for name in names], config.normalise)
    rising = sorted(sparsities, reverse=True)
    parts: list[Part]
    if config.mode == "sequential":
        seed = int(torch.randint(2**32, (), generator=run.generator("surp", "order")))
        made = sequential.select(source.u, rising, seed, config.alpha, REFRESH_DECAY, floor)
        parts = [sequential.part(names, source, sizes, made, steps) for steps in made.marks]
        length = f"{len(made.positions)} steps"
    else:
        passed = rounds.select(source.u, rising, config.alpha, ROUND_DECAY, floor)
        parts = [rounds.part(names, source, sizes, passed, mark) for mark in passed.marks]
        length = f"{len(passed.rounds)} rounds"
    run.progress(f"surp: {length} to sparsity {rising[len(parts) - 1]}")
    return list(zip(rising, parts, strict=False))[::-1]


def _retrained(task: Task, config: Config, run: Run) -> Iterator[tuple[float, nn.Module, Part]]:
    """For each sparsity: prune by SuRP, retrain, code the result; the next round starts from the retrained network."""
    network = task.reference()
    for sparsity, epochs in zip(config.rounds(run.budget), config.operating_points(run.budget), strict=True):
        recipe = (
            Recipe(epochs, LEARNING_RATE, schedule=Multistep(RETRAIN_MILESTONES))
            if run.budget.epochs is None
            else Recipe(epochs, learning_rate(run.budget, LEARNING_RATE))
        )
        ((_, pruned),) = _coded(network, config, run, (sparsity,))
        storage.fill(network, [pruned])
        fit(network, task, run, recipe, f"sparsity {sparsity}", masks(network))
        ((_, part),) = _coded(network, config, run, (0.0,), RESIDUAL)  # pruned weights are never selected
        yield sparsity, network, part


def masks(network: nn.Module) -> Mapping[str, Tensor]:
    """True where a weight of a convolution or linear layer is not zero; biases and BatchNorm may grow again."""
    return {f"{path}.weight": layer.weight.detach() != 0 for path, layer in storage.layers(network).items()}


def _statistics(network: nn.Module, coded: Sequence[str]) -> Part | None:
    """BatchNorm's running statistics, which SuRP does not code: fp16, or fp32 if fp16 can't hold them."""
    tensors: dict[str, Any] = {
        name: tensor.detach().cpu().numpy() for name, tensor in blueprint.state(network).items() if name not in coded
    }
    if not tensors:
        return None
    dtype: Literal["float16", "float32"] = "float16" if all(map(storage.fits_fp16, tensors.values())) else "float32"
    return raw.part(list(tensors), list(tensors.values()), "norm_bias", dtype)
