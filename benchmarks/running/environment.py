"""The machine and the state of the code: the part of a record's provenance that is constant during a run."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

import torch

from benchmarks.fingerprint import ROOT

PACKAGES = ("torch", "torchvision", "numpy", "constriction", "scikit-learn", "msgspec", "nncodec")
CODE = ("methods", "benchmarks", "pyproject.toml", "constraints.txt")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@functools.cache
def commit() -> tuple[str | None, bool | None]:
    """(commit, whether code differs from it); (None, None) outside a git checkout."""
    head = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", *CODE)
    return head, None if changes is None else bool(changes)


@functools.cache
def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def cpu() -> str:
    """The processor's model name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {len(names) or 1} threads"


@functools.cache
def gpu() -> str | None:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def device() -> torch.device:
    """The device on which networks run: this process's GPU, or the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
