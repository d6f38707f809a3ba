"""Tasks by name: one module each, as `TaskModule` says; `test_split()` in it is for the harness alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from benchmarks import discovery
from benchmarks.errors import UnknownName
from benchmarks.fetching import RemoteFile
from methods.interface import Split, Task


class TaskModule(Protocol):
    """What a task module offers."""

    METRIC: str
    IMAGES: tuple[int, int]  # how many there are for training and for scoring
    SHAPE: tuple[int, int, int]  # of an image
    NETWORKS: Mapping[str, object]

    def task(self, network: str) -> Task: ...
    def files(self, network: str | None = None) -> list[RemoteFile]:
        """What has to be fetched for one network, or for all; empty for a task that is embedded."""
        ...

    def provenance(self, network: str) -> dict[str, str]:
        """Hashes of the data and, where it is downloaded, of the reference checkpoint."""
        ...

    def test_split(self) -> Split:
        """The test images: for scoring only, never handed to a method."""
        ...


def names() -> list[str]:
    return discovery.names(__name__)


def get(name: str) -> TaskModule:
    """The task module called `name`; raises UnknownName."""
    return cast(TaskModule, discovery.find(__name__, "task", name))


def load(name: str, network: str) -> Task:
    """The task with one of its reference networks; raises UnknownName for either. Loads nothing yet."""
    module = get(name)
    if network not in module.NETWORKS:
        kind = f"network of task {name!r}"
        raise UnknownName(kind, network, module.NETWORKS)
    return module.task(network)
