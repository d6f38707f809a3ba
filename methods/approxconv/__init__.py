"""ApproxConv: slices of kernels as short series of cosines or Chebyshev polynomials (Costain & Prisacariu, BMVC 2022).

A k×k slice is taken for samples of a function on a square. It is approximated by n×n products of the first functions of a
series, and their coefficients are stored instead of the slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeAlias, cast

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn

from benchmarks.bitstream import blueprint
from benchmarks.bitstream.codecs import raw
from benchmarks.errors import MethodError
from benchmarks.training import SGD, Callback, Multistep, Recipe, control_variate, fit
from methods.approxconv import coding, minifloat, modules
from methods.approxconv.bases import LARGEST, Approximation, Basis, approximated
from methods.approxconv.layers import convolutions, orders, parameters
from methods.families import grid, storage
from methods.families.budget import epochs_per_point, learning_rate, trains
from methods.families.description import describe
from methods.families.generated import Generated
from methods.families.limits import Bits, Count, Images, NotNegative, Positive
from methods.families.slim import Slim
from methods.families.storage import Arrays
from methods.interface import Budget, Card, Codec, Compressed, DecoderModule, Json, Part, Run, Task

CARD = Card(
    key="approxconv",
    title="Approximating Continuous Convolutions for Deep Network Compression",
    authors=("Theo W. Costain", "Victor A. Prisacariu"),
    venue="BMVC",
    year=2022,
    families=("low-rank factorisation",),
    fidelity="reconstruction",
    budgets=("post-training", "short", "paper"),
    arxiv="2210.08951",
    code="https://github.com/ActiveVisionLab/ApproxConv",
    note="From the official code, its configurations and the paper's abstract; the tables were not available.",
)
CODECS = cast("dict[str, Codec]", {**coding.CODECS, **minifloat.CODECS})
MODULES = cast("dict[str, DecoderModule]", modules.MODULES)
Order: TypeAlias = Annotated[int, Meta(ge=1, le=LARGEST)]


@dataclass(frozen=True)
class Config:
    """Each of `points` is one operating point: the orders n of the network's stages (`layers.orders`).

    The `basis` "dct" is the truncated DCT, and "pca" has the best filters for each layer and stores them. With the `form`
    "kernels", the decoder computes kernels from coefficients. With "channels", it filters channels and mixes them where that
    takes fewer multiply-accumulates (`modules`).

    `storage` is that of all weights: raw, with `bits` significant bits as in the official code ("minifloat"; linear layers in
    fp32), or on a uniform grid of 2^bits − 1 levels per tensor ("uniform"). The last two are entropy coded, and training uses
    the rounded weights. Without training, BatchNorm is corrected by `recalibrate` unlabelled images. `lr`, `batch`,
    `weight_decay`, `epochs` and `milestones` are the training at the `paper` budget.
    """

    points: tuple[tuple[Order, ...], ...] = ((3, 3, 3, 2), (3, 3, 2, 2), (3, 2, 2, 2), (2, 2, 2, 2))
    basis: Basis = "cosine"
    form: Literal["kernels", "channels"] = "kernels"
    storage: Literal["float32", "float16", "minifloat", "uniform"] = "float32"
    bits: Bits = 8
    recalibrate: Images = 500
    lr: Positive = 0.001
    batch: Count = 128
    weight_decay: NotNegative = 5e-4
    epochs: Count = 5
    milestones: tuple[Count, ...] = ()

    def __post_init__(self) -> None:
        if not self.points or not all(self.points) or len(set(self.points)) < len(self.points):
            raise ValueError("points needs at least one list of orders, and each list once")

    def operating_points(self, budget: Budget) -> list[float]:
        return epochs_per_point(budget, len(self.points), self.epochs)


def unsupported(task: Task, config: Config) -> str | None:
    """Why no kernel of a network can be approximated, in one sentence; None if some can."""
    try:
        network = blueprint.skeleton(task.architecture, task.arguments, {}, {})
        if not all(orders(network, point) for point in config.points):
            return f"{task.architecture} has no convolution with a square window above the orders of one of the points"
    except MethodError as error:
        return str(error)
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per list of orders, each fitted to the reference in closed form and trained separately."""
    storage.check_names(task)
    training = trains(run.budget)
    items = 0 if training else config.recalibrate
    known = control_variate.control(task.reference(), task, items)
    for point, epochs in zip(config.points, config.operating_points(run.budget), strict=True):
        network, label = task.reference(), "-".join(map(str, point))
        chosen, layers = orders(network, point), convolutions(network)
        weights = {path: layers[path].weight.detach().numpy() for path in chosen}
        found = {path: approximated(weights[path], config.basis, order) for path, order in chosen.items()}
        notes = _notes(network, found, weights)
        if training:
            sources = {f"{path}.weight": Synthesis(own) for path, own in found.items()}
            generated = Generated(network, sources)
            recipe = _recipe(config, run.budget, epochs)
            fit(generated, task, run, recipe, f"point {label}", None, _rounding(config, generated))
            found = {path: sources[f"{path}.weight"].trained(own) for path, own in found.items()}
        slim = _channels(layers, found, config)
        network = slim.realise(task, network)
        parts = _parts(network, found, slim, config)
        storage.fill(network, parts)
        control_variate.correct(network, task, items, known)
        yield describe(task, network, slim, parts, {"orders": label}, notes | {"channels": list(slim.edits)})


class Synthesis(nn.Module):
    """A kernel as a function of its coefficients, which are trained; the filters are fixed."""

    filters: Tensor

    def __init__(self, found: Approximation) -> None:
        super().__init__()
        self.size = found.size
        self.coefficients = nn.Parameter(torch.from_numpy(found.coefficients.astype(np.float32)))
        self.register_buffer("filters", torch.from_numpy(found.filters.astype(np.float32)))

    def forward(self) -> Tensor:
        with torch.autocast(
            self.filters.device.type, enabled=False
        ):  # as exact as in the file, whose kernels these are
            kernel: Tensor = self.coefficients.flatten(2) @ self.filters
        return kernel.reshape(*kernel.shape[:2], self.size, self.size)

    def trained(self, before: Approximation) -> Approximation:
        """With the filters of the training, which a resumed run has from its checkpoint."""
        own = None if before.own is None else self.filters.detach().numpy()
        return replace(before, coefficients=self.coefficients.detach().numpy(), own=own)


def _channels(layers: Mapping[str, nn.Conv2d], found: Mapping[str, Approximation], config: Config) -> Slim:
    """The replacements of convolutions that take fewer multiply-accumulates; none in the form "kernels"."""
    edits, tensors = {}, {}
    for path, own in found.items() if config.form == "channels" else ():
        layer = layers[path]
        dense, replaced = modules.multiplications(layer, own.order, own.kind)
        if replaced < dense and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            edits[path] = modules.spec(layer, own.order, own.kind)
            tensors[f"{path}.coefficients"] = torch.from_numpy(own.coefficients)
            if own.own is not None:
                tensors[f"{path}.filters"] = torch.from_numpy(own.own).reshape(-1, own.size, own.size)
    return Slim(edits, tensors=tensors)


def _parts(network: nn.Module, found: Mapping[str, Approximation], slim: Slim, config: Config) -> list[Part]:
    """Parts with coefficients, stored bases and all other weights."""
    own = {f"{path}.coefficients": found[path].coefficients for path in slim.edits}
    rest = {f"{path}.weight": approximation for path, approximation in found.items() if path not in slim.edits}
    bases = {name: values for name, values in slim.tensors.items() if name not in own}
    parts = [raw.part(list(bases), list(bases.values()), "codebooks")] if bases else []
    if rest:
        (coefficients,) = _stored({name: a.coefficients for name, a in rest.items()}, config)
        parts.append(coding.part(list(rest), list(rest.values()), coefficients))
    others = {
        name: values
        for name, values in storage.matrices(storage.tensors(network)).items()
        if not {name} & {*own, *rest, *bases}
    }
    linear = {f"{path}.weight" for path, module in network.named_modules() if isinstance(module, nn.Linear)}
    exact = {name: values for name, values in others.items() if config.storage == "minifloat" and name in linear}
    own |= {name: values for name, values in others.items() if name not in exact}
    return [*parts, *(_stored(own, config) if own else []), *storage.stored_raw(exact, "float32")]


def _stored(values: Arrays, config: Config) -> list[Part]:
    """One part with weights in the configured storage."""
    if config.storage == "uniform":
        return [grid.part(values, config.bits)]
    if config.storage == "minifloat":
        return [minifloat.part(list(values), list(values.values()), config.bits, "weights")]
    return [raw.part(list(values), list(values.values()), "weights", config.storage)]


def _notes(network: nn.Module, found: Mapping[str, Approximation], weights: Arrays) -> dict[str, Json]:
    """The number of parameters as the paper counts them, and of each layer the share of energy that the fit leaves out."""
    error = {
        path: round(float(np.square(own.kernel() - weights[path]).sum() / np.square(weights[path]).sum()), 4)
        for path, own in found.items()
        if weights[path].any()
    }
    return {"parameters": parameters(network, {path: own.order for path, own in found.items()}), "error": error}


def _rounding(config: Config, network: nn.Module) -> Callback | None:
    if config.storage == "minifloat":
        return minifloat.OnMinifloat(network, config.bits)
    return grid.OnGrid(network, config.bits) if config.storage == "uniform" else None


def _recipe(config: Config, budget: Budget, epochs: float) -> Recipe:
    optimiser = SGD(weight_decay=config.weight_decay)
    if budget.epochs is None:
        return Recipe(epochs, config.lr, config.batch, optimiser, Multistep(config.milestones))
    return Recipe(epochs, learning_rate(budget, config.lr), config.batch, optimiser)
