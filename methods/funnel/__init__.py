"""Funnel regularisation (Chu & Lee 2021): gates on the ranks of all layers at once say which ranks are removed.

Every convolution but the first becomes a Tucker-2 chain or an SVD pair of full rank. Each rank has a gate, and the penalty
|g| / (c + |g|) on all gates closes those that matter least to the network. Ranks whose gate is zero are removed, which does not
change the function. Layers that are not cheaper as chains become dense again, and the network is trained without the penalty.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from benchmarks.bitstream import blueprint
from benchmarks.errors import MethodError
from benchmarks.training import SGD, Multistep, Recipe, fit
from methods.families import grid, storage
from methods.families.budget import learning_rate
from methods.families.description import describe
from methods.families.grid import OnGrid
from methods.families.slim import Slim
from methods.funnel.closing import MOMENTUM, Closing, Optimise, open_gates
from methods.funnel.config import CLOSING, SLOW, WARM, Config
from methods.funnel.factors import layers
from methods.funnel.gated import Gated, gated
from methods.funnel.ranks import Ranks
from methods.interface import Card, Compressed, Json, Run, Task

CARD = Card(
    key="funnel",
    title="Low-rank Tensor Decomposition for Compression of Convolutional Neural Networks Using Funnel Regularization",
    authors=("Bo-Shiuan Chu", "Che-Rung Lee"),
    venue="AAAI workshop on practical deep learning",
    year=2022,
    families=("low-rank factorisation",),
    fidelity="reconstruction",
    budgets=("short", "paper"),
    arxiv="2112.03690",
    code="https://github.com/juroberttyb/self_MUSCO",
    note=(
        "The abstract, the beginning of the introduction and research code of the first author, which is older than the paper, "
        "were available. The text and its tables were not."
    ),
)


def unsupported(task: Task, config: Config) -> str | None:
    """Needs a convolution, other than the first, that is ungrouped and padded with zeros."""
    if not layers(blueprint.skeleton(task.architecture, task.arguments, {}, {})):
        return f"needs a second convolution, ungrouped and padded with zeros, which {task.architecture} does not have"
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed; its notes are the ranks per layer and which share of the gates is closed.

    Raises MethodError if a share can't be removed.
    """
    storage.check_names(task)
    for target, epochs in zip(config.targets, config.operating_points(run.budget), strict=True):
        chains = gated(task.reference(), config.gates == "balanced")
        ranks = _ranks(task, chains)
        goal = _goal(ranks, target)
        closing = _closed(task, config, run, chains, ranks, goal, f"{target:g} removed", epochs)
        counts = ranks.counts(open_gates(chains.gates()))
        factored = dict(zip(ranks.paths, ranks.chains(counts).tolist(), strict=True))
        slim = chains.slim(factored)
        network = slim.realise(task, _others(task, chains))
        rest = epochs * (1 - WARM - CLOSING)
        lr = learning_rate(run.budget, config.finetune_lr)
        last = Recipe(rest, lr, config.finetune_batch, SGD(weight_decay=0.0))
        fit(network, task, run, last, f"{target:g} removed, ranks fixed", None, OnGrid(network, config.bits))
        weights = grid.part(storage.matrices(storage.tensors(network)), config.bits)
        notes = _notes(chains, ranks, factored, closing)
        yield describe(task, network, Slim(slim.edits), [weights], {"removed": target}, notes)


def _closed(
    task: Task, config: Config, run: Run, chains: Gated, ranks: Ranks, goal: float, stage: str, epochs: float
) -> Closing:
    """Train the chains without the penalty, then with it; afterwards the open gates meet the goal."""
    lr = learning_rate(run.budget, config.lr)
    still, slow = Multistep(()), Multistep((0.0,), gamma=SLOW)
    warm = Recipe(WARM * epochs, lr, config.batch, SGD(weight_decay=0.0), slow)
    fit(chains.network, task, run, warm, f"{stage}, full rank")
    optimise = Optimise(chains.gates(), MOMENTUM[config.variant])
    penalised = Recipe(CLOSING * epochs, lr, config.batch, optimise, still)
    steps = _steps(task, penalised)
    closing = Closing(chains.gates(), ranks, goal, config.strength, config.variant, steps)
    fit(chains.network, task, run, penalised, f"{stage}, gates", None, closing)
    ranks.to(torch.device("cpu"))
    closing.close(1.0)  # changes nothing if all steps were taken
    return closing


def _steps(task: Task, recipe: Recipe) -> int:
    """The steps that `fit` takes."""
    an_epoch = math.ceil(len(task.train) / recipe.batch)
    whole, rest = divmod(recipe.epochs, 1)
    return int(whole) * an_epoch + (max(1, round(rest * an_epoch)) if rest else 0)


def _ranks(task: Task, chains: Gated) -> Ranks:
    sizes = [len(gate) for gate in chains.gates()]
    return Ranks(task.reference(), chains.layers, sizes, task.prepare(task.calibration(1).inputs))


def _goal(ranks: Ranks, target: float) -> float:
    least = float(ranks.macs(torch.ones(int(ranks.link[-1]) + 1, dtype=torch.float64)))
    if (1 - target) * ranks.dense < least:
        msg = (
            f"{target:.0%} of the MACs can't be removed: with rank 1 everywhere, {least / ranks.dense:.1%} remain; "
            "ask for less"
        )
        raise MethodError(msg)
    return (1 - target) * ranks.dense


@torch.no_grad()
def _others(task: Task, chains: Gated) -> nn.Module:
    """The reference with the trained values of what is not factorised."""
    network = task.reference()
    trained = blueprint.state(chains.network)
    for name, tensor in blueprint.state(network).items():
        if name in trained:
            tensor.copy_(trained[name])
    return network


def _notes(chains: Gated, ranks: Ranks, factored: dict[str, bool], closing: Closing) -> dict[str, Json]:
    """A line per layer with its open and all gates, and 0 or 1 for dense or chain; shares of closed gates."""
    table: list[Json] = []
    for path in ranks.paths:
        gates = [link.gates for link in chains.links(path)]
        sizes = [size for gate in gates for size in (int((gate != 0).sum()), len(gate))]
        table.append([path, *sizes, int(factored[path])])
    closed = ~open_gates(chains.gates()).cpu()
    shares = {"closed": closed, "forced": closed & closing.forced.cpu()}
    return {"layers": table, **{name: round(float(mask.double().mean()), 4) for name, mask in shares.items()}}
