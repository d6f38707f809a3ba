"""What training of references needs from the suite: checkpoints, and a note beside the tensors that it leaves."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import safetensors.torch
import torch
from torch import Tensor

from benchmarks import seeds, storage
from benchmarks.running import environment
from benchmarks.running.contents import tensors_hash
from benchmarks.running.lent import Say
from methods.interface import Budget

START_OVER = "remove it to begin this training again"


class TrainingRun:
    """Satisfies `methods.interface.Run`: checkpoints in a folder that belongs to this training alone.

    `names` (kind, task, network) seed its random numbers. Make one when the training begins: `seconds` counts from then.
    """

    def __init__(self, folder: Path, names: tuple[str, str, str], say: Say) -> None:
        self.seed, self.device, self.budget = 0, environment.device(), Budget("paper", None)
        self.folder, self._names, self._say = folder, names, say
        self._started, self._begin = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
        self._commit, self._dirty = environment.commit()

    def generator(self, *names: str | int) -> torch.Generator:
        return seeds.generator(*self._names, *names)

    def progress(self, message: str) -> None:
        self._say(f"{self._names[1]}, {self._names[2]}: {message}")

    def checkpoint(self, stage: str, state: Mapping[str, Any]) -> None:
        storage.save_tensors(self.folder / f"{stage}.pt", state)

    def restore(self, stage: str) -> dict[str, Any] | None:
        file = self.folder / f"{stage}.pt"
        return storage.load_own(file, START_OVER) if file.exists() else None

    def seconds(self) -> float:
        """Since the training began, or went on."""
        return round(time.perf_counter() - self._begin, 1)

    def keep(self, file: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any], seconds: float) -> None:
        """Write the tensors and, with the suffix .json, the note and the provenance."""
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        whole = {
            **note,
            "tensors": tensors_hash(tensors),
            "commit": self._commit,
            "dirty": self._dirty,
            "command": f"ratebench {' '.join(sys.argv[1:])}",
            "started": self._started,
            "seconds": seconds,
            "versions": environment.versions(),
            "cpu": environment.cpu(),
            "gpu": environment.gpu(),
        }
        storage.write(file.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")
        storage.write(file, safetensors.torch.save(tensors))
        self._say(f"{self._names[1]}, {file.stem}: trained, {file}")
