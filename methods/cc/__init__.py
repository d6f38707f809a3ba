"""Collaborative compression: input channels and singular components of a layer are units of one kind (Li et al. 2021).

A unit's score is the information loss Σ (g ∘ ΔW)² after its removal, with the mean gradient g, plus γ times the expected loss
after one more removal. How much each layer is compressed follows from exponentials that are fitted to its loss; all layers have
the same marginal loss. Layers then read gathered channels, and are pairs of convolutions where components were removed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.bitstream import blueprint
from benchmarks.errors import MethodError
from benchmarks.training import control_variate, fit
from benchmarks.training.batchnorm import reestimate
from benchmarks.training.control_variate import Control
from methods.cc import gradients, rates, realise, training
from methods.cc.config import Config
from methods.cc.realise import Frame
from methods.cc.steps import Decision, Path
from methods.cc.units import Convolution
from methods.families import finishing
from methods.families.budget import trains
from methods.families.description import describe
from methods.interface import Card, Compressed, Json, Run, Task

CARD = Card(
    key="cc",
    title="Towards Compact CNNs via Collaborative Compression",
    authors=(
        "Yuchao Li", "Shaohui Lin", "Jianzhuang Liu", "Qixiang Ye", "Mengdi Wang", "Fei Chao", "Fan Yang", "Jincheng Ma",
        "Qi Tian", "Rongrong Ji",
    ),
    venue="CVPR",
    year=2021,
    families=("structured pruning", "low-rank factorisation"),
    fidelity="reconstruction",
    budgets=("post-training", "short", "paper"),
    arxiv="2105.11228",
    code="https://github.com/yuchaoli/CC",
    note="Abstract and official code were available: equations and settings are those of the code.",
)  # fmt: skip
HALVINGS = 30  # of the interval of κ


def unsupported(task: Task, config: Config) -> str | None:
    """Needs an ordinary convolution between the first and the last layer."""
    try:
        if realise.compressible(blueprint.skeleton(task.architecture, task.arguments, {}, {})):
            return None
    except MethodError as error:
        return str(error)
    return f"{task.architecture} has no ordinary convolution between its first and its last layer"


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed, each from the reference; its notes are κ and what is left of each layer."""
    training_ = trains(run.budget)
    if not training_ and not config.recalibrate:
        raise MethodError("without training, gradients come from unlabelled images: set recalibrate")
    frame = realise.frame(task, run)
    items = config.recalibrate if not training_ or config.storage == "rdoq" else 0
    search = functools.cache(lambda: _Search(frame, config, run))  # not needed if all decisions are known
    for target, epochs in zip(config.targets, config.operating_points(run.budget), strict=True):
        stage = f"choice {target:g}"
        if (saved := run.restore(stage)) is None:  # a resumed run must train the same network
            decisions, kappa = search().at((1 - target) * frame.dense)
            run.checkpoint(stage, {"decisions": {p: tuple(d) for p, d in decisions.items()}, "kappa": kappa})
            saved = run.restore(stage)
        assert saved is not None
        decisions = {path: Decision(*decision) for path, decision in saved["decisions"].items()}
        reference = task.reference()
        slim = frame.realised(reference, decisions)
        network = slim.realise(task, reference)
        if training_:
            recipe = training.recipe(task, config, run, epochs)
            fit(network, task, run, recipe, f"{target:g} removed", None, training.callback(config, run, network))
            known = control_variate.control(network, task, items)
        else:
            known = _without_training(frame, decisions, items)
        part = finishing.corrected_and_rounded(network, task, run, config.storage, config.bits, items, known)
        yield describe(task, network, slim, [part], {"removed": target}, _notes(frame, decisions, saved["kappa"]))


def _without_training(frame: Frame, decisions: Mapping[str, Decision], items: int) -> Control:
    """The control variate of the reference, without the filters that are gone."""
    reference, twin = frame.task.reference(), frame.task.reference()
    reestimate(twin, frame.task, items)
    return control_variate.between(
        *(frame.plan(net, decisions).slim(net).realise(frame.task, net) for net in (reference, twin))
    )


class _Search:
    """Fits and paths of all layers, and the search for the share κ that meets a goal."""

    def __init__(self, frame: Frame, config: Config, run: Run) -> None:
        task, labelled = frame.task, trains(run.budget)
        split = task.train if labelled else task.calibration(config.recalibrate)
        if labelled and 0 < config.images < len(split):
            split = task.calibration(config.images)
        found = gradients.mean_gradient(task.reference(), task, run, [*frame.layers], split, labelled)
        exact = config.forward == "exact"
        self._frame = frame
        self._paths, self._fits, self._macs = dict[str, Path](), dict[str, rates.Fit](), dict[str, int]()
        for path, layer in frame.layers.items():
            squares = found[path].double().flatten(1).square()
            squares = squares / squares.mean().clamp_min(1e-300)  # scale cancels
            weight = layer.weight.detach().double().flatten(1)
            conv = Convolution(weight, squares, layer.in_channels, frame.places(path))
            self._fits[path] = rates.fitted(*rates.points(conv), path)
            self._macs[path] = conv.macs(conv.channels, None)
            self._paths[path] = Path(conv, config.gamma, config.units, exact)
            run.progress(f"{path}: loss grows as exp({self._fits[path].p2:.1f} · rate)")

    def decided(self, kappa: float) -> dict[str, Decision]:
        """What is left of each layer if the share κ of the network's MACs is removed, as the official code counts them."""
        shares = rates.shares(self._macs, self._fits, kappa * self._frame.dense)
        return {path: each.until(shares[path] * self._macs[path]) for path, each in self._paths.items()}

    def at(self, goal: float) -> tuple[dict[str, Decision], float]:
        """The decisions at a κ at which the network has at most `goal` MACs; raises MethodError if there is none.

        It is one of the smallest, but MACs do not always fall with κ: a smaller one may do, too.
        """
        highest = rates.MOST * sum(self._macs.values()) / self._frame.dense
        low, high = 0.0, min(1 - goal / self._frame.dense, highest)
        while self._frame.macs(self.decided(high)) > goal:
            if high == highest:
                msg = f"the MACs can't fall to {goal:,.0f}: {self._frame.macs(self.decided(high)):,} remain at the most"
                raise MethodError(msg)
            low, high = high, min(1.1 * high, highest)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self._frame.macs(self.decided(middle)) <= goal:
                high = middle
            else:
                low = middle
        return self.decided(high), high


def _notes(frame: Frame, decisions: Mapping[str, Decision], kappa: float) -> dict[str, Any]:
    ranks = frame.ranks(decisions)
    table: list[Json] = [
        [path, layer.in_channels, int(decisions[path].kept.sum()), ranks[path]] for path, layer in frame.layers.items()
    ]
    return {"kappa": kappa, "layers": table, "macs": frame.macs(decisions)}
