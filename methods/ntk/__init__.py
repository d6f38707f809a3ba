"""NTK matching: ternary weights and piecewise-constant activations with the same kernels (Gu et al., NeurIPS 2022).

The conjugate and neural tangent kernels of a wide random network depend on its weights only through mean and variance, and on
each activation only through a few Gaussian moments. Gaussian weights are therefore replaced by sparse ternary ones, and ReLU by
functions of two or three values with the same moments. Then the linear read-out is trained again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, cast

import torch
from msgspec import Meta
from torch import Tensor, nn

from benchmarks.bitstream.codecs import raw
from benchmarks.training import AdamW, Multistep, Recipe, fit
from benchmarks.training.readout import Readout, in_batches
from methods.families.limits import Count, Share, check_order
from methods.interface import Budget, Card, Codec, Compressed, DecoderModule, Run, Task
from methods.ntk import activations, networks, storage
from methods.ntk.matching import Last
from methods.ntk.networks import Network, Storage, bits

CARD = Card(
    key="ntk",
    title='"Lossless" Compression of Deep Neural Networks: A High-dimensional Neural Tangent Kernel Approach',
    authors=("Lingyu Gu", "Yongqi Du", "Yuan Zhang", "Di Xie", "Shiliang Pu", "Robert C. Qiu", "Zhenyu Liao"),
    venue="NeurIPS",
    year=2022,
    families=("quantisation", "unstructured pruning"),
    fidelity="paper",
    budgets=("paper",),
    arxiv="2403.00258",
    note="Written from the authors' preprint and the official code; the published text may differ.",
    code="https://github.com/Model-Compression/Lossless_Compression",
)
CODECS = cast("dict[str, Codec]", storage.CODECS)
MODULES = cast("dict[str, DecoderModule]", activations.MODULES)
ARCHITECTURE = "random_features"
RATE, BATCH = 0.001, 128
Zeros: TypeAlias = Annotated[float, Meta(ge=0, lt=1)]


@dataclass(frozen=True)
class Config:
    """`rule` "matched" is the paper's method; "sparse" and "quantised" are its baselines, with the Gaussian weights in fp16.

    One point for each share of zeros: `eps` in ternary weights, `zeroed` in Gaussian ones. `last` says how the last activation
    is matched (`methods.ntk.matching.sigma_q`). `storage`: ternary weights are entropy coded, or two bits each, or the file
    holds the seed from which they are drawn again; then files are of one size for all `eps`, so that there is one point.
    """

    rule: Literal["matched", "sparse", "quantised"] = "matched"
    eps: tuple[Zeros, ...] = (0.5, 0.0, 0.9)
    zeroed: tuple[Share, ...] = (0.8, 0.9)
    last: Last = "four"
    storage: Storage = "entropy"
    epochs: Count = 500

    def __post_init__(self) -> None:
        check_order("zeroed", self.zeroed)
        sizes = [bits(eps) for eps in self.eps]
        if not sizes or sizes != sorted(set(sizes), reverse=True):
            raise ValueError(
                "eps has to have values in the order of their files' sizes, from the largest to the smallest"
            )
        if self.storage != "entropy" and len(self.eps) > 1:
            msg = f"storage {self.storage!r} gives files of one size for all eps: eps has to have one value"
            raise ValueError(msg)

    def operating_points(self, budget: Budget) -> list[float]:
        points = {"matched": len(self.eps), "sparse": len(self.zeroed), "quantised": 1}[self.rule]
        return [float(self.epochs if budget.epochs is None else budget.epochs)] * points


def unsupported(task: Task, config: Config) -> str | None:
    """A network that is not one of random layers is refused."""
    if task.architecture != ARCHITECTURE:
        return f"needs a network of random layers of which the read-out alone is trained: {task.network} is none"
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point for each share of zeros. Each read-out is trained on features that are computed once."""
    for network in _networks(task, config, run):
        made = _readout(task, network, config.operating_points(run.budget)[0], run)
        part = raw.part(["readout.weight"], [made.numpy()], "weights")
        parts = (network.part, part)
        yield Compressed(ARCHITECTURE, task.arguments, parts, network.point, network.edits, notes=network.notes)


def _networks(task: Task, config: Config, run: Run) -> Iterator[Network]:
    if config.rule == "matched":
        yield from (networks.matched(task, eps, config.last, config.storage, run) for eps in config.eps)
    elif config.rule == "sparse":
        yield from (networks.zeroed(task, share, run) for share in config.zeroed)
    else:
        yield networks.quantised(task)


def _readout(task: Task, network: Network, epochs: float, run: Run) -> Tensor:
    """The trained read-out (classes, d): Adam with a constant learning rate, as in the official code."""
    inputs, outputs = cast(Sequence[int], task.arguments["widths"])[-2:]
    with torch.device("meta"):  # draws no random numbers
        layer = nn.Linear(inputs, outputs, bias=False)
    layer.to_empty(device="cpu")
    stage = " ".join(f"{name} {value}" for name, value in network.point.items())
    nn.init.uniform_(layer.weight, -(inputs**-0.5), inputs**-0.5, run.generator("readout", task.network, stage))
    seen = Readout(task, lambda: in_batches(network.features, task, task.train.inputs))
    recipe = Recipe(epochs, RATE, BATCH, AdamW(0.0), Multistep(()))
    fit(layer, cast(Task, seen), run, recipe, stage)
    found: Tensor = layer.weight.detach()
    return found
