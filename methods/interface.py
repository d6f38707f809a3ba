"""The contract between a compression method and the suite that measures it.

A method is a *module* with four names::

    CARD: Card
    @dataclass(frozen=True) class Config: ...
    def unsupported(task: Task, config: Config) -> str | None: ...
    def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]: ...

It never writes a file and never sees a test image: it yields descriptions (`Compressed`), which the suite turns into
bytes, decodes in a fresh process and scores. Nothing here trains, codes or imports the rest of the suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

Json: TypeAlias = "bool | int | float | str | list[Json] | tuple[Json, ...] | Mapping[str, Json] | None"
Role = Literal["weights", "indices", "codebooks", "norm_bias", "header"]
BudgetName = Literal["post-training", "short", "paper"]


@dataclass(frozen=True)
class Card:
    """Who a method is by, what family it belongs to, and how faithful the module is to the paper.

    `faithful` is "paper" (written from the full text), "reconstruction" (the text was not available: `note` says what
    it was rebuilt from) or "baseline" (no single paper stands behind it). `budgets` lists what the method can be run
    with. A Config whose attribute `random` is true has a post-training result that depends on the seed.
    """

    key: str
    title: str
    authors: tuple[str, ...]
    venue: str
    year: int
    families: tuple[str, ...]
    faithful: Literal["paper", "reconstruction", "baseline"]
    budgets: tuple[BudgetName, ...] = ("post-training",)
    arxiv: str = ""
    code: str = ""
    note: str = ""


# Metadata of a Config's field that was added when records existed: at its default it names no other configuration.
ADDED: Mapping[str, bool] = {"added": True}


@dataclass(frozen=True)
class Budget:
    """How much training a method may spend: `epochs` in all over one curve, or None for the paper's own schedule."""

    name: BudgetName
    epochs: float | None


@dataclass(frozen=True)
class Split:
    """Labelled images: `images` uint8 (N, C, H, W), a tensor or what is indexed like one, `labels` int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), self.labels.to(device))


class Task(Protocol):
    """What a method may know of a task. There is no test split here; only the harness has one."""

    name: str
    network: str
    architecture: str
    arguments: Mapping[str, Json]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int
    flip: bool

    @property
    def train(self) -> Split: ...
    @property
    def validation(self) -> Split: ...
    def reference(self) -> nn.Module:
        """A fresh copy of the trained, uncompressed network in eval mode, fp32, on the CPU."""
        ...

    def calibration(self, n: int) -> Split:
        """The first `n` training images of a fixed shuffle; labels are there but post-training methods leave them."""
        ...

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor: ...


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
    """A leaf module to build in place of the architecture's own: an allow-listed class name and its arguments."""

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
    labels the operating point, the same for every seed; what the method found out on the way goes under its key `notes`
    as a mapping, which is recorded beside the labels.
    """

    architecture: str
    arguments: Mapping[str, Json]
    parts: tuple[Part, ...]
    point: Mapping[str, Json]
    edits: Mapping[str, ModuleSpec] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)


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


@runtime_checkable
class Method(Protocol):
    """The four names above; `CODECS` (name -> Codec) is there only where a paper brings its own storage format."""

    CARD: Card
    Config: type[Any]
    unsupported: Callable[[Task, Any], str | None]
    compress: Callable[[Task, Any, Run], Iterator[Compressed]]
