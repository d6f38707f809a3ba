"""Reference networks that `ratebench train` makes: where they are kept. Small ones are part of the repository."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from benchmarks import storage
from benchmarks.errors import TaskError
from benchmarks.fingerprint import ROOT

__fingerprint__ = False  # records hold a hash of the tensors
PROVENANCE = {"reference": "trained by ratebench train; params.yaml has the recipe"}


def path(task: str, network: str) -> Path:
    """The file of a reference's tensors; beside it, with the suffix .json, lies how it was trained."""
    return ROOT / "results" / "references" / task / f"{network}.safetensors"


def cached(task: str, network: str) -> Mapping[str, Tensor] | None:
    """The tensors of a reference by name; None if it is not trained yet. Raises TaskError if the file is damaged."""
    file = path(task, network)
    return storage.load_tensors(file) if file.exists() else None


def state(task: str, network: str) -> Mapping[str, Tensor]:
    """The same; raises TaskError also if it is not trained yet."""
    found = cached(task, network)
    if found is None:
        msg = f"the reference {network} of {task} is not trained yet: `ratebench train {task} {network}` trains it"
        raise TaskError(msg)
    return found
