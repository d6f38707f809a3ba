"""Tasks by name: one module each, with the names of `TaskModule`. Only the suite uses `test()`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from torch import Tensor, nn

from benchmarks import registry
from benchmarks.data.download import RemoteFile
from benchmarks.errors import UnknownName
from methods.interface import Metric, Task

__fingerprint__ = False  # finds tasks by name; their own files count


class Test(Protocol):
    """The test items of a task; methods have no access to them.

    They may also define `split()`, the items and targets as a Split, whose hash each record then contains.
    """

    items: int
    example: Tensor  # an input for one item, (1, …), as the network takes it

    def scores(self, network: nn.Module, part: range) -> Mapping[str, Tensor]:
        """For each metric, by name, one value (len(part),) per test item of `part`, on the CPU.

        Booleans for a proportion, real values for a mean.
        """
        ...


class TaskModule(Protocol):
    """The names that a task module defines.

    A task whose data can't be downloaded may also define `prepare(say)`, which `ratebench prepare` calls. It unpacks the
    archives that the user has provided, and reports its progress in sentences passed to `say`.

    A task that trains its reference on this machine and keeps it in the cache folder also defines
    `cached_reference(network)`: its tensors by name, or None if it is not trained yet. Records of another reference are not
    valid. Without this function, the reference is trained to compare it.

    A task whose references have layers that are not trained may also define `trainable(network, task)`. It sets these layers of
    an untrained `network`, and gives the part that `ratebench train` trains and keeps, with the task as this part sees it.
    """

    METRICS: tuple[Metric, ...]  # networks are compared by the first
    ITEMS: tuple[int, int]  # the number of items for training and for scoring
    NETWORKS: Mapping[str, object]

    def task(self, network: str) -> Task:
        """The task as a method sees it."""
        ...

    def test(self, network: str) -> Test:
        """The test items. Loads nothing yet."""
        ...

    def files(self, network: str | None = None) -> list[RemoteFile]:
        """The files to download for one network, or for all; empty for an embedded task."""
        ...

    def provenance(self, network: str) -> dict[str, str]:
        """The hashes of the data and of the reference checkpoint as "md5:…" or "sha256:…".

        For data that is not downloaded, and a reference that is trained on this machine, a description.
        """
        ...


def names() -> list[str]:
    return registry.names(__name__)


def get(name: str) -> TaskModule:
    """The task module called `name`; raises UnknownName."""
    return cast(TaskModule, registry.find(__name__, "task", name))


def load(name: str, network: str) -> Task:
    """The task with one of its reference networks; raises UnknownName for either. Loads nothing yet."""
    module = get(name)
    if network not in module.NETWORKS:
        kind = f"network of task {name!r}"
        raise UnknownName(kind, network, module.NETWORKS)
    return module.task(network)
