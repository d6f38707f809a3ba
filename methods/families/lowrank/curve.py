"""From a decomposition to operating points: build the thinner network, train it or not, and describe it at a rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import bitstream
from benchmarks.bitstream import blueprint
from benchmarks.bitstream.codecs import raw, uniform
from benchmarks.errors import MethodError
from benchmarks.training import Recipe, fit, reestimate
from methods.families.export import norm_parts
from methods.families.lowrank.layers import groups
from methods.families.lowrank.unfolding import RankError
from methods.interface import Compressed, Json, ModuleSpec, Part, Run, Task


@dataclass(frozen=True)
class Settings:
    """What every low-rank method is run with.

    `rates` is ρ, one operating point each: a layer of O outputs gets about ρ·O ranks. `ratios` asks for ratios in bytes
    instead and finds ρ. `paper_rates` belong to the `paper` budget. `storage` is how all weights are coded: raw, or on a
    uniform grid of 2^bits − 1 levels per tensor, entropy coded. `start` "scratch" trains the structure from random
    weights. `recalibrate` is the number of unlabelled images on which BatchNorm is re-estimated for the weights as
    stored, unless they are what was trained. `warmup` holds the learning rates of epochs before the `epochs` of the
    `paper` budget.
    """

    rates: tuple[float, ...] = (1.5, 1.0, 0.5, 0.25, 0.125)
    ratios: tuple[float, ...] = ()
    paper_rates: tuple[float, ...] = (0.08, 0.04)
    storage: Literal["float32", "float16", "uniform"] = "float32"
    bits: int = 8
    start: Literal["pretrained", "scratch"] = "pretrained"
    recalibrate: int = 0
    lr: float = 0.1
    short_lr: float = 0.02
    epochs: int = 300
    milestones: tuple[int, ...] = (140, 200, 250)
    warmup: tuple[float, ...] = ()


@dataclass(frozen=True)
class Factorised:
    """A network's thinner structure and, by path, the tensors that differ from the dense network's."""

    edits: Mapping[str, ModuleSpec]
    tied: Mapping[str, str]
    tensors: Mapping[str, Tensor]


Decompose: TypeAlias = Callable[[nn.Module, float], Factorised]


def refused(task: Task, config: Settings) -> str | None:
    """Why these settings or this network can't be followed, in a sentence; None if they can."""
    if not all(grid and all(r > 0 for r in grid) for grid in (config.rates, config.paper_rates)):
        return "rates and paper_rates have to be positive, at least one each"
    if not all(list(g) == sorted(set(g), reverse=True) for g in (config.rates, config.paper_rates)):
        return "rates have to fall, from the largest network to the smallest"
    if list(config.ratios) != sorted(set(config.ratios)) or not all(r > 1 for r in config.ratios):
        return "ratios have to rise and be above 1"
    if not 2 <= config.bits <= 16 or config.storage not in ("float32", "float16", "uniform"):
        return "storage has to be float32, float16 or uniform, with 2 to 16 bits"
    try:
        if not groups(blueprint.skeleton(task.architecture, task.arguments, {}, {})):
            return f"needs the repeated blocks of a ResNet (layer2.0.conv1 …), which {task.architecture} does not have"
    except MethodError as error:
        return str(error)
    return None


def weights(network: nn.Module) -> int:
    """Numbers in weights and biases, shared ones once, without BatchNorm: the size that low-rank papers count."""
    norms = {p for m in network.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    return sum(p.numel() for p in network.parameters() if p not in norms)


def curve(task: Task, config: Settings, run: Run, decompose: Decompose) -> Iterator[Compressed]:
    """One point per rate or ratio, each decomposed from the reference and trained on its own.

    The label `cf` is the ratio of `weights` before and after.
    """
    trains = run.budget.name != "post-training"
    if config.start == "scratch" and not trains:
        raise MethodError("start 'scratch' needs a budget with training: post-training has none")
    paper = run.budget.epochs is None
    goals = config.ratios or (config.paper_rates if paper else config.rates)
    for goal in goals:
        reference = task.reference()
        if config.ratios:
            rate, factorised = _at_ratio(task, config, reference, decompose, goal)
            label: dict[str, Json] = {"target": goal, "rate": rate}
        else:
            factorised, label = decompose(reference, goal), {"rate": goal}
        network = realise(task, reference, factorised)
        if config.start == "scratch":
            initialise(network, run.generator("init", str(goal)))
        if trains:
            fit(network, task, run, _recipe(config, run, len(goals)), f"point {goal}")
        coded = _quantised(network, factorised, config.bits) if config.storage == "uniform" else None
        if coded is not None or not trains:
            reestimate(network, task, config.recalibrate)
        cf = round(weights(reference) / weights(network), 3)
        yield describe(task, config, network, factorised, coded, {**label, "cf": cf})


def _recipe(config: Settings, run: Run, points: int) -> Recipe:
    if run.budget.epochs is None:
        return Recipe(
            config.epochs + len(config.warmup),
            config.lr,
            schedule="multistep",
            milestones=config.milestones,
            decay_norm=False,
            warmup=config.warmup,
        )
    return Recipe(run.budget.epochs / points, config.short_lr, decay_norm=False)


def realise(task: Task, reference: nn.Module, factorised: Factorised) -> nn.Module:
    """The factorised network, shared tensors shared; what was not decomposed is the reference's."""
    network = blueprint.skeleton(task.architecture, task.arguments, factorised.edits, factorised.tied)
    blueprint.allocate(network, factorised.tied)
    dense = blueprint.state(reference)
    with torch.no_grad():
        for name, tensor in blueprint.state(network, factorised.tied).items():
            tensor.copy_(factorised.tensors[name] if name in factorised.tensors else dense[name])
    return network.eval()


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Random weights as the paper's code draws them: truncated normal, σ = 0.01; BatchNorm fresh, biases zero."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.weight.fill_(1)
            module.bias.zero_()
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.01, a=-0.02, b=0.02, generator=generator)
        elif not isinstance(network.get_submodule(name.rpartition(".")[0]), nn.BatchNorm2d):
            parameter.zero_()


def _at_ratio(
    task: Task, config: Settings, reference: nn.Module, decompose: Decompose, goal: float
) -> tuple[float, Factorised]:
    """The largest rate, to 0.1 %, whose file is at most 1/goal of the reference's fp32 bytes, before any training."""
    allowed = task.uncompressed_bytes / goal
    low, high = 0.0, 0.02
    best: tuple[float, Factorised] | None = None
    growing = True
    while high - low > 0.001 * high:
        rate = high if growing else (low + high) / 2
        try:
            found = decompose(reference, rate)
            network = realise(task, reference, found)
            coded = _quantised(network, found, config.bits) if config.storage == "uniform" else None
            fits = len(bitstream.encode(describe(task, config, network, found, coded, {}))) <= allowed
        except RankError:  # the rate is too high
            fits = False
        if fits:
            low, best = rate, (round(rate, 5), found)
            high = 2 * rate if growing else high
        else:
            growing, high = False, rate
        if high < 1e-3:
            break
    if best is None:
        smallest = f"a ratio of {goal} can't be reached: what is not decomposed is larger than that"
        raise MethodError(smallest)
    return best


def describe(
    task: Task,
    config: Settings,
    network: nn.Module,
    factorised: Factorised,
    coded: Part | None,
    point: Mapping[str, Json],
) -> Compressed:
    """The network in the storage asked for: raw, or with weights as `coded` and BatchNorm as the two vectors of inference."""
    tensors = {n: t.detach().numpy() for n, t in blueprint.state(network, factorised.tied).items()}
    others = {name: values for name, values in tensors.items() if values.ndim < 2}
    if coded is not None:
        parts = [coded, *norm_parts(network, others)]
    else:
        matrices = {name: values for name, values in tensors.items() if values.ndim > 1}
        kinds: list[tuple[dict[str, Any], Any]] = [(matrices, "weights"), (others, "norm_bias")]
        parts = [raw.part(list(kind), list(kind.values()), role, config.storage) for kind, role in kinds]
    return Compressed(task.architecture, task.arguments, tuple(parts), point, factorised.edits, factorised.tied)


@torch.no_grad()
def _quantised(network: nn.Module, factorised: Factorised, bits: int) -> Part:
    """Round all weights of the network to a grid per tensor, in place, and describe them."""
    levels = 2 ** (bits - 1) - 1
    codes, steps = {}, {}
    for name, tensor in blueprint.state(network, factorised.tied).items():
        if tensor.ndim > 1:
            step = max(float(tensor.abs().max()), float(np.finfo(np.float32).tiny)) / levels
            codes[name], steps[name] = uniform.quantise(tensor.detach().numpy(), step)
            tensor.copy_(torch.from_numpy(uniform.dequantise(codes[name], steps[name])))
    return uniform.part(list(codes), list(codes.values()), list(steps.values()), "weights")
