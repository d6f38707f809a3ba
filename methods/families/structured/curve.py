"""From a choice of channels to operating points: remove channels, train if the budget allows, describe the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import nn

from benchmarks.training import SGD, Recipe, control_variate, fit
from benchmarks.training.batchnorm import reestimate
from methods.families import grid, rounding, storage
from methods.families.budget import epochs_per_point, learning_rate, trains
from methods.families.description import describe
from methods.families.grid import OnGrid
from methods.families.limits import Bits, Count, Images, NotNegative, Positive, Share, check_order
from methods.families.slim import Slim
from methods.families.structured.channels import Where
from methods.families.structured.prunable import Keep, Prunable, analyse
from methods.interface import Budget, Compressed, Json, Run, Task


@dataclass(frozen=True)
class Settings:
    """The settings of all structured methods.

    `targets` are shares of the dense network's multiply-accumulates to remove, one operating point each; with training, each
    starts from the one before. `where` selects the channels that may be removed (`channels.find`). Training uses SGD with
    `batch` images per step and the learning rate of the budget, or `lr` if it has none; each point has `epochs` at the
    `paper` budget. The remaining weights are stored on a uniform grid of 2^bits − 1 levels per tensor with entropy coding.
    Without training, BatchNorm is corrected by `recalibrate` unlabelled images. With `storage` "rdoq", weights are rounded as
    in the baseline of that name, after any training; what inputs are like comes from the same images, by which BatchNorm is
    corrected then, too.
    """

    targets: tuple[Share, ...] = (0.3, 0.5, 0.7)
    where: Where = "inner"
    lr: Positive = 0.02
    batch: Count = 128
    weight_decay: NotNegative = 5e-4
    epochs: Count = 200
    recalibrate: Images = 500
    storage: Literal["uniform", "rdoq"] = "uniform"
    bits: Bits = 8

    def __post_init__(self) -> None:
        check_order("targets", self.targets)
        if self.storage == "rdoq" and not self.recalibrate:
            raise ValueError("storage 'rdoq' needs images: set recalibrate")

    def operating_points(self, budget: Budget) -> list[float]:
        """Training epochs of each target."""
        return epochs_per_point(budget, len(self.targets), self.epochs)

    @property
    def hard(self) -> float:
        """The share of a point's epochs after channels are removed."""
        return 1.0


Choose: TypeAlias = Callable[[nn.Module, Prunable, Keep, float], tuple[Keep, Mapping[str, Json]]]


def curve(task: Task, config: Settings, run: Run, choose: Choose, whole: bool = False) -> Iterator[Compressed]:
    """One point per target; with `whole`, residual blocks may also be removed.

    `choose` gets the dense network with zeros for the channels removed so far, the kept channels, and the goal in MACs. It
    returns the channels to keep and notes for the record, and may change the network's weights in place.
    """
    training = trains(run.budget)
    items = 0 if training and config.storage != "rdoq" else config.recalibrate
    prunable = analyse(task, config.where, whole)
    for sentence in prunable.whole:
        run.progress(f"left whole: {sentence}")
    goals = [prunable.goal(target) for target in config.targets]
    dense, keep = task.reference(), prunable.all_kept()
    twin = task.reference()
    reestimate(twin, task, 0 if training else items)
    for target, goal in zip(config.targets, goals, strict=True):
        if not training:
            dense, keep = task.reference(), prunable.all_kept()
        # A choice may depend on the last bit of a gradient: a resumed run must train the same network.
        stage = f"choice {target:g}"
        chosen = run.restore(stage)
        if chosen is None:
            keep, notes = choose(dense, prunable, keep, goal)
            run.checkpoint(stage, {"keep": keep, "notes": notes, "dense": dense.state_dict()})
            chosen = run.restore(stage)  # the same choice in every process
        assert chosen is not None
        keep, notes = chosen["keep"], chosen["notes"]
        dense.load_state_dict(chosen["dense"])
        network, plan = prunable.narrow(dense, keep)
        if training and config.hard:
            on_grid = OnGrid(network, config.bits) if config.storage == "uniform" else None
            fit(network, task, run, recipe(config, run, config.hard), f"{target:g} removed", None, on_grid)
            dense = prunable.widen(network, plan)
        if training:
            known = control_variate.control(network, task, items)
        else:
            known = control_variate.between(*(prunable.narrow(n, keep)[0] for n in (task.reference(), twin)))
            control_variate.correct(network, task, items, known)
        found = storage.matrices(storage.tensors(network))
        if config.storage == "rdoq":
            weights = rounding.part(network, task, items, found, config.bits, run.device)
            control_variate.correct(network, task, items, known)
        else:
            weights = grid.part(found, config.bits)
        yield describe(task, network, Slim(plan.edits, tensors=plan.indices), [weights], {"removed": target}, notes)


def recipe(config: Settings, run: Run, share: float) -> Recipe:
    """The recipe for a share of a point's epochs."""
    epochs = config.operating_points(run.budget)[0]
    rate = learning_rate(run.budget, config.lr)
    return Recipe(epochs * share, rate, config.batch, SGD(weight_decay=config.weight_decay))
