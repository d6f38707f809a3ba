"""The contract between a compression method and the suite that measures it.

A method is a *module* with four names::

    CARD: Card
    @dataclass(frozen=True) class Config: ...
    def unsupported(task: Task, config: Config) -> str | None: ...
    def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]: ...

The types of a Config contain the bounds of its settings (`Annotated[float, Meta(gt=0)]`, Literals). Its method
`operating_points(budget)` returns the training epochs of each operating point of a curve, in order.

A method never writes a file and never sees a test item. It yields descriptions (`Compressed`); the suite turns them into
bytes, decodes these in a fresh process and scores the result. This file does no training or coding and imports no other
part of the suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

__fingerprint__ = False  # only types and docstrings: no result depends on them

Json: TypeAlias = "bool | int | float | str | list[Json] | tuple[Json, ...] | Mapping[str, Json] | None"
Role = Literal["weights", "indices", "codebooks", "norm_bias", "header"]
BudgetName = Literal["post-training", "short", "paper"]
Fidelity = Literal["paper", "reconstruction", "baseline"]
CLASSIFICATION = "image classification"
REGRESSION = "regression"
IMAGE_CODING = "image coding"


@dataclass(frozen=True)
class Card:
    """The source of a method, its families, and how close the module is to the paper.

    `fidelity` is "paper" (written from the full text), "reconstruction" (the full text was not available; `note` names the
    sources) or "baseline" (a common method for comparison). `budgets` lists the supported budgets, `kinds` the
    supported kinds of task. `estimate` names the note that holds the method's own estimate of the redundant share of
    multiply-accumulates; "" if there is none. If a Config has an attribute `random` that is true, its post-training
    results depend on the seed.
    """

    key: str
    title: str
    authors: tuple[str, ...]
    venue: str
    year: int
    families: tuple[str, ...]
    fidelity: Fidelity
    budgets: tuple[BudgetName, ...] = ("post-training",)
    arxiv: str = ""
    code: str = ""
    note: str = ""
    kinds: tuple[str, ...] = (CLASSIFICATION,)
    estimate: str = ""


@dataclass(frozen=True)
class Budget:
    """How much training a method may use: `epochs` for each operating point, or None for the paper's own schedule.

    `learning_rate` was chosen for the method on this network; None leaves the choice to the method.
    """

    name: BudgetName
    epochs: float | None
    learning_rate: float | None = None


@dataclass(frozen=True)
class Metric:
    """A quality measure of a task: how values are averaged, and how the average is shown.

    Each test item has one value. A "proportion" averages values of 0 and 1 (Wilson's interval), a "mean" any real
    values (Student's interval). The average is shown as `scale` times itself, in `unit`, with `decimals` decimals.
    `complement` is the papers' name for `scale` minus the value, e.g. "error" ("" if there is none). `help` explains
    the metric to readers in one sentence.
    """

    name: str
    unit: str
    kind: Literal["proportion", "mean"]
    help: str
    scale: float = 1.0
    more_is_better: bool = True
    complement: str = ""
    decimals: int = 2

    @property
    def difference_unit(self) -> str:
        """The unit of a difference of two shown values."""
        return "points" if self.unit == "%" else self.unit


@dataclass(frozen=True)
class Split:
    """Items and their targets: `inputs` (N, …), a tensor or an object indexed like one, and `targets` (N, …).

    Images are uint8 (N, C, H, W), class labels int64 (N,).
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> Split:
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images: random crops after zero padding by `padding` pixels, and random horizontal flips."""

    padding: int = 0
    flip: bool = False


class Task(Protocol):
    """A task as methods see it. It has no test split; only the suite has access to that.

    `kind` is compared with `Card.kinds`. `architecture` and `arguments` name the reference network. `metrics` are the
    task's quality measures; networks are compared by the first. `augmentation` is the usual one for training on the task.
    `uncompressed_bytes` is the numerator of every ratio: the fp32 bytes of the reference network's values or, where data is
    coded (a picture), the bytes of that. `reference_values` is the number of values of the reference network, or None where
    data is coded.
    """

    name: str
    kind: str
    network: str
    architecture: str
    arguments: Mapping[str, Json]
    metrics: tuple[Metric, ...]
    augmentation: Augmentation

    @property
    def uncompressed_bytes(self) -> int: ...
    @property
    def reference_values(self) -> int | None: ...
    @property
    def train(self) -> Split: ...
    @property
    def validation(self) -> Split: ...
    def reference(self) -> nn.Module:
        """A fresh copy of the trained, uncompressed network in eval mode, fp32, on the CPU."""
        ...

    def calibration(self, n: int) -> Split:
        """The first `n` items of a fixed shuffle: training items or, in a task without them, others with targets of −1.

        Post-training methods must not use their targets.
        """
        ...

    def prepare(self, inputs: Tensor) -> Tensor:
        """Convert stored inputs (N, …) to the network's fp32 input, on the same device."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean training loss of a batch (N, …)."""
        ...

    def scores(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """For each metric, by name, one value (N,) per item."""
        ...


class Run(Protocol):
    """What the suite provides to a method while it runs."""

    seed: int
    device: torch.device
    budget: Budget

    def generator(self, *names: str | int) -> torch.Generator:
        """A CPU generator seeded by the run's seed and `names`: the same names always give the same stream."""
        ...

    def checkpoint(self, stage: str, state: Mapping[str, Any]) -> None:
        """Store tensors and plain values under `stage`, atomically; only a run with the same fingerprint can restore them."""
        ...

    def restore(self, stage: str) -> dict[str, Any] | None:
        """The last checkpoint of `stage` in this run, or None."""
        ...

    def progress(self, message: str) -> None: ...


@dataclass(frozen=True)
class ModuleSpec:
    """A replacement for a module of the architecture: a kind known to the decoder, and arguments.

    Build specs with the decoder module's own `spec()` function (`benchmarks/bitstream/modules`), which documents them.
    """

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    children: tuple[ModuleSpec, ...] = ()


@dataclass(frozen=True)
class Part:
    """One coded piece of a network: `codec` turns `data` into bytes and those bytes into the tensors `targets`.

    A part may fill several tensors (joint coding, one codebook for all layers). The codec defines the content of
    `data`: build parts with the codec's `part()` function, which documents it.
    """

    codec: str
    targets: tuple[str, ...]
    role: Role
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Compressed:
    """Everything that the decoder receives about a network, at one operating point.

    `architecture` is a module of `benchmarks.networks`. A method that uses another one than its task imports that module, so
    that its records depend on the network's code; otherwise the cell fails with MethodError.

    `edits` replaces modules of the architecture by path; `tied` makes parameter paths share one tensor (path -> the
    path that `parts` fills). Every tensor of the resulting network must be the target of exactly one part. `point`
    labels the operating point and is the same for every seed. `notes` are further results of the method, for the record.
    """

    architecture: str
    arguments: Mapping[str, Json]
    parts: tuple[Part, ...]
    point: Mapping[str, Json]
    edits: Mapping[str, ModuleSpec] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Coded:
    """An encoded part: `meta` for the header (small, JSON-like) and byte streams, each with its role."""

    meta: Mapping[str, Any]
    streams: tuple[tuple[Role, bytes], ...]


class Codec(Protocol):
    """Two symmetric functions; a module with both is a codec. Existing files must always decode as before."""

    def encode(self, part: Part) -> Coded: ...

    def decode(
        self, meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]
    ) -> list[np.ndarray[Any, Any]]:
        """Arrays with exactly these `shapes`; raises BitstreamError for input that `encode` cannot have written."""
        ...


class DecoderModule(Protocol):
    """A kind of module that a file may name. A kind must always build the same module for existing files."""

    def build(self, arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
        """Build the module from a file's arguments, which are untrusted; raises ValueError or TypeError if they are invalid."""
        ...


class Method(Protocol):
    """A method's module.

    A method with its own storage format or kinds of module also defines `CODECS` (name -> Codec) or `MODULES` (name ->
    DecoderModule); in a file their names are "<method>.<name>".
    """

    CARD: Card
    Config: type[Any]
    unsupported: Callable[[Task, Any], str | None]
    compress: Callable[[Task, Any, Run], Iterator[Compressed]]
