"""Single-path bit sharing (Liu et al. 2023): gates that are trained choose bits of weights and activations, and filters.

Uniform grids of 2, 4 and 8 bits are nested: a value on a finer grid is the value on the coarser one plus an offset. Binary
gates on the offsets choose the bits of each layer, and gates on groups of filters what is pruned. Their thresholds are
trained with the weights, for the loss plus a multiple of the logarithm of the bit operations. The chosen network, which is
smaller and has fixed bits, is then trained.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bitstream import blueprint
from benchmarks.errors import MethodError
from benchmarks.evaluation import bops
from benchmarks.training import SGD, Multistep, Recipe, fit
from benchmarks.training.batchnorm import reestimate
from methods.families import grid, storage
from methods.families import quantised_activations as layers
from methods.families.budget import learning_rate
from methods.families.description import describe
from methods.families.grid import OnGrid
from methods.families.slim import Slim
from methods.families.structured import analyse, cost
from methods.interface import Card, Compressed, Json, Run, Task
from methods.sbs import extraction
from methods.sbs.config import Config
from methods.sbs.operations import Operations
from methods.sbs.searched import Searched, searched
from methods.sbs.training import Optimise, Searching

CARD = Card(
    key="sbs",
    title="Single-path Bit Sharing for Automatic Loss-aware Model Compression",
    authors=("Jing Liu", "Bohan Zhuang", "Peng Chen", "Chunhua Shen", "Jianfei Cai", "Mingkui Tan"),
    venue="IEEE Transactions on Pattern Analysis and Machine Intelligence",
    year=2023,
    families=("quantisation", "structured pruning"),
    fidelity="reconstruction",
    budgets=("short", "paper"),
    arxiv="2101.04935",
    note=(
        "The full text of the first version (Automatic Bit Sharing, 2021), the final abstract and research code of the authors "
        "were available. The final text and its tables were not."
    ),
)
ITEMS = 500  # calibration items: for signs, clip ranges, BatchNorm and metrics at the start
BITS = 8  # of stored weights where no bits are chosen


def unsupported(task: Task, config: Config) -> str | None:
    """Needs three layers that can be quantised, and BatchNorm."""
    try:
        network = blueprint.skeleton(task.architecture, task.arguments, {}, {})
        return layers.obstacle(network, normalise=config.variant != "prune")
    except MethodError as error:
        return str(error)


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per target, each from the reference; its notes are the bits and filters of each layer, and bit operations.

    Raises MethodError if the bit operations can't fall to a target.
    """
    storage.check_names(task)
    example = task.prepare(task.calibration(1).inputs)
    for target, epochs in zip(config.points, config.operating_points(run.budget), strict=True):
        network, operations = _start(task, config)
        goal = operations.dense / target
        stage = f"{target:g} times fewer bit operations"
        share = config.search(run.budget, epochs)
        fit(network, task, run, _search(config, run, network, share), f"{stage}, search", None,
            Searching(operations, goal, config.penalty))  # fmt: skip
        closed = _chosen(run, network, operations, goal, f"{stage}, gates")
        small, plan = extraction.extracted(task, network)
        notes: dict[str, Json] = {"layers": extraction.table(network), "closed_after": closed}
        rest = _rest(config, run, epochs - share)
        if config.variant == "prune":
            fit(small, task, run, rest, stage, None, OnGrid(small, BITS))
            weights, decoded = grid.part(storage.matrices(storage.tensors(small)), BITS), small
            slim = Slim(plan.edits, tensors=plan.indices)
        else:
            fit(small, task, run, rest, stage, None, layers.Positive(small))
            weights, decoded, edits = layers.parts(small)
            slim = Slim({**plan.edits, **edits}, tensors=plan.indices)
        count = bops.count(decoded, example)
        notes |= {"bops": count, "bops_ratio": round(operations.dense / count, 2)}
        yield describe(task, decoded, slim, [weights], {"target": target}, notes)


def _start(task: Task, config: Config) -> tuple[Searched, Operations]:
    """The network at the start of the search, with all gates open, and its bit operations."""
    network = task.reference()
    paths = list(storage.layers(network))
    if config.variant == "quantise":
        groups, costs = [], cost.measure(network, [], task.prepare(task.calibration(1).inputs))
    else:
        prunable = analyse(task)
        groups, costs = prunable.groups, prunable.cost
    quantise = config.variant != "prune"
    known = layers.seen(network, task, ITEMS, paths) if quantise else {}
    found = searched(network, paths, known, groups, quantise, config.start == "calibrated", config.group, config.most)
    reestimate(found, task, ITEMS if quantise else 0)  # normalised weights give other statistics
    return found, Operations(found, costs)


def _search(config: Config, run: Run, network: Searched, epochs: float) -> Recipe:
    thresholds = [threshold for side in network.thresholds().values() for threshold in side]
    faster = config.search_epochs / epochs if epochs else 1.0
    optimiser = Optimise(thresholds, config.search_lr * faster, config.weight_decay)
    return Recipe(epochs, learning_rate(run.budget, config.search_lr), config.batch, optimiser, Multistep(()))


def _chosen(run: Run, network: Searched, operations: Operations, goal: float, stage: str) -> int:
    """Close the gates that the target still needs; returns how many. A resumed run has the same ones."""
    network.eval()
    if (saved := run.restore(stage)) is None:
        closed = operations.meet(goal)
        run.checkpoint(stage, {"network": network.state_dict(), "closed": closed})
        saved = run.restore(stage)
    assert saved is not None
    network.load_state_dict(saved["network"])
    return int(saved["closed"])


def _rest(config: Config, run: Run, epochs: float) -> Recipe:
    optimiser = SGD(weight_decay=config.weight_decay, nesterov=True)
    falls = run.budget.epochs is None and config.milestones
    schedule = Multistep(config.milestones) if falls else None
    return Recipe(epochs, learning_rate(run.budget, config.lr), config.batch, optimiser, schedule)
