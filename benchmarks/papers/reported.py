"""The numbers that papers report, as data: `methods/<key>/reported.toml`.

Units: proportions and reductions in per cent, other metrics as their task shows them, ratios as factors, sizes in bytes.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

import methods
from benchmarks.errors import RateBenchError

T = TypeVar("T")
CLAIM = "claim"  # the metric of a row that is a sentence; its value has no meaning


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Size(_Strict, frozen=True, kw_only=True):
    """The size that a paper gives for a row, in its own accounting."""

    value: float
    unit: Literal["bytes", "ratio", "params"]
    counts: Literal["file", "weights only", "params", "unstated"]


class Reported(_Strict, frozen=True, kw_only=True):
    """One number of a paper.

    `network` is a name or a pattern (`mlp_*`): the mean over several networks answers then.

    `metric` is a metric of the task, the complement of one, a size or cost (`benchmarks.papers.quantities`),
    CLAIM, or the name of a metric with `_increase`: by how many per cent it is larger than the uncompressed network's.
    `method` is the method of this suite that the number is about, if that is not the paper's own. `point` names the
    operating point by labels that the method yields, and `config` holds settings that differ from the method's defaults. If
    `budget` is given, only records at that budget answer. `baseline` is the value of the paper's own uncompressed network.
    `spread` is the printed standard deviation over runs; `best`, the value of the best epoch on the test set, is kept but
    never compared. `last_digit` is the value of one unit of the last printed digit (1e6 for 3.42E8): it marks an accounting
    number, which follows from a structure (`benchmarks.papers.accounting`). `comparable` is a reason why the number can't be
    compared, `known_gap` a reason why a difference is expected. `context` marks a number of a method that is not in this
    suite: it is shown in a separate table, without records. Points of one printed curve share the name `curve`: it can be a
    baseline for the curves of this suite, on a page of the mean over `mean_of` networks.
    """

    task: str
    network: str
    metric: str
    value: float
    source: str
    method: str = ""
    budget: str = ""
    point: dict[str, Any] = {}
    config: dict[str, Any] = {}
    baseline: float | None = None
    size: Size | None = None
    tolerance: float | None = None
    spread: float | None = None
    best: float | None = None
    last_digit: Annotated[float, Meta(gt=0)] | None = None
    known_gap: str = ""
    comparable: str = ""
    context: bool = False
    curve: str = ""
    mean_of: Annotated[int, Meta(ge=1)] = 1
    claim: str = ""

    @property
    def is_accounting(self) -> bool:
        """Whether the number follows from a structure and is counted, not measured."""
        return self.last_digit is not None


class _File(_Strict, frozen=True):
    row: list[Reported] = []


@functools.lru_cache(maxsize=256)
def _decoded(text: bytes, kind: type[T]) -> T:
    """The same text is parsed once: a page asks for a paper's rows many times."""
    return msgspec.toml.decode(text, type=kind)


def decode(path: Path, kind: type[T]) -> T:
    """A TOML file as `kind`, not to be changed; raises RateBenchError that names the file, the place and the reason."""
    try:
        return _decoded(path.read_bytes(), kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = f"{path} does not follow the schema of {path.name}: {error}"
        raise RateBenchError(msg) from error
    except OSError as error:
        msg = f"can't read {path}: {error.strerror or error}"
        raise RateBenchError(msg) from error


def beside(key: str, name: str) -> Path | None:
    """The file `name` in the package of method `key`, if there is one."""
    path = methods.source(key) / name
    return path if path.parent.is_dir() and path.exists() else None


def read(path: Path) -> list[Reported]:
    """The rows of a reported.toml; raises RateBenchError for a bad file."""
    return list(decode(path, _File).row)


def of(key: str) -> list[Reported]:
    """The reported rows of the method `key`; empty if the module has no reported.toml."""
    path = beside(key, "reported.toml")
    return [] if path is None else read(path)
