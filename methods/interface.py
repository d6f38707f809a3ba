"""The contract between a compression method and the suite that measures it.

A method is a *module* with four names::

    CARD: Card
    @dataclass(frozen=True) class Config: ...
    def unsupported(task: Task, config: Config) -> str | None: ...
    def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]: ...

A Config has bounds in its types (`Annotated[float, Meta(gt=0)]`, Literals) and a method `operating_points(budget)`, which
gives the epochs of training of each operating point of a curve, in order.

It never writes a file and never sees a test item: it yields descriptions (`Compressed`), which the suite turns into
bytes, decodes in a fresh process and scores. Nothing here trains, codes or imports the rest of the suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

__fingerprint__ = False  # types and docstrings alone: no result depends on them

Json: TypeAlias = "bool | int | float | str | list[Json] | tuple[Json, ...] | Mapping[str, Json] | None"
Role = Literal["weights", "indices", "codebooks", "norm_bias", "header"]
BudgetName = Literal["post-training", "short", "paper"]
Fidelity = Literal["paper", "reconstruction", "baseline"]
CLASSIFICATION = "image classification"


@dataclass(frozen=True)
class Card:
    """Who a method is by, what family it belongs to, and how close the module is to the paper.

    `fidelity` is "paper" (written from the full text), "reconstruction" (the text was not available: `note` says what
    it was rebuilt from) or "baseline" (no single paper stands behind it). `budgets` lists what the method can be run
    with, `kinds` the kinds of task that it works on. `estimate` names the note in which the method records the share of
    multiply-accumulates that, by its own estimate, a network does not need; "" if it makes none. A Config whose
    attribute `random` is true has a post-training result that depends on the seed.
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
    """How much training a method may spend: `epochs` in all over one curve, or None for the paper's own schedule."""

    name: BudgetName
    epochs: float | None


@dataclass(frozen=True)
class Metric:
    """A quality measure that a task owns: how single values are averaged, and how the average is shown.

    Each test item has one value. A "proportion" averages values of 0 and 1 (Wilson's interval), a "mean" any real
    values (Student's interval). The average is shown as `scale` times itself, in `unit`, with `decimals` decimals.
    `complement` is what papers call `scale` minus the shown value ("" if nothing). `help` is one sentence for readers.
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
    """Items with what is wanted of them: `inputs` (N, …), a tensor or what is indexed like one, and `targets` (N, …).

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
    """How images are varied in training: random crops after `padding` pixels of zeros, and random horizontal flips."""

    padding: int = 0
    flip: bool = False


class Task(Protocol):
    """What a method may know of a task. There is no test split here; only the harness has one.

    `kind` is compared with `Card.kinds`. `architecture` and `arguments` name the reference network; `metrics` are the
    task's quality measures, the first of which is the one that networks are compared by. `augmentation` is what training
    on the task customarily uses. `uncompressed_bytes` is the numerator of every ratio: the fp32 bytes of the reference
    network's values or, where there is no reference network, the bytes of the data that is to be coded.
    `reference_values` is the number of the reference network's values, None where there is no such network.
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
        """The first `n` training items of a fixed shuffle; targets are there but post-training methods leave them."""
        ...

    def prepare(self, inputs: Tensor) -> Tensor:
        """What a network takes: stored inputs (N, …) as its fp32 input, on the same device."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean training loss of a batch (N, …)."""
        ...

    def scores(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """By the name of each metric, one value (N,) per item."""
        ...


class Run(Protocol):
    """What the suite lends a method while it works."""

    seed: int
    device: torch.device
    budget: Budget

    def generator(self, *names: str | int) -> torch.Generator:
        """A CPU generator seeded by the run's seed and `names`: the same names give the same stream, always."""
        ...

    def checkpoint(self, stage: str, state: Mapping[str, Any]) -> None:
        """Store tensors and plain values under `stage`, atomically; only a run of the same fingerprint gets them back."""
        ...

    def restore(self, stage: str) -> dict[str, Any] | None:
        """The last checkpoint of `stage` of this very run, or None."""
        ...

    def progress(self, message: str) -> None: ...


@dataclass(frozen=True)
class ModuleSpec:
    """A module to build in place of the architecture's own: a kind that the decoder knows, and its arguments.

    Build specs with the decoder module's own `spec()` function (`benchmarks/bitstream/modules`), which documents them.
    """

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    children: tuple[ModuleSpec, ...] = ()


@dataclass(frozen=True)
class Part:
    """One coded piece of a network: `codec` turns `data` into bytes and those bytes into the tensors `targets`.

    A part may fill several tensors (joint coding, one codebook for all layers). What `data` holds is the codec's
    affair: build parts with the codec's own `part()` function, which documents it.
    """

    codec: str
    targets: tuple[str, ...]
    role: Role
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Compressed:
    """All that the decoder will know of a network, at one operating point.

    `edits` replaces modules of the architecture by path; `tied` makes parameter paths share one tensor (path -> the
    path that `parts` fills). Every tensor of the resulting network has to be the target of exactly one part. `point`
    labels the operating point, the same for every seed; `notes` are what the method found out on the way, for the record.
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
    """What a codec made of a part: `meta` for the header (small, JSON-like) and byte streams, each with its role."""

    meta: Mapping[str, Any]
    streams: tuple[tuple[Role, bytes], ...]


class Codec(Protocol):
    """Two symmetric functions; a module with both is a codec. A codec's meaning never changes once files exist."""

    def encode(self, part: Part) -> Coded: ...

    def decode(
        self, meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]
    ) -> list[np.ndarray[Any, Any]]:
        """Arrays of exactly `shapes`; raises BitstreamError for anything else than what `encode` can write."""
        ...


class DecoderModule(Protocol):
    """A kind of module that a file may name. A kind's meaning never changes once files exist."""

    def build(self, arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
        """The module for a file's arguments, which may be anything; raises ValueError or TypeError if they are bad."""
        ...


@runtime_checkable
class Method(Protocol):
    """The four names above.

    Where a paper brings its own storage format or kinds of module, `CODECS` (name -> Codec) and `MODULES` (name ->
    DecoderModule) are there, too; in a file their names are "<method>.<name>".
    """

    CARD: Card
    Config: type[Any]
    unsupported: Callable[[Task, Any], str | None]
    compress: Callable[[Task, Any, Run], Iterator[Compressed]]
