"""What all tests share: one thread, property tests without a clock or chance, fresh processes, a guard for real data."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from places import TESTS, python_path

from benchmarks import storage

ROOT = Path(__file__).resolve().parent.parent
CIFAR10 = "cifar-10-batches-py"

torch.set_num_threads(1)
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and a console would keep it: tests choose widths themselves
# numba starts its threads in OpenMP, which torch shares: from then on torch would have as many as there are cores
os.environ["NUMBA_NUM_THREADS"] = "1"
settings.register_profile(
    "ratebench",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("ratebench")


def _real_cifar10() -> bool:
    mirror = os.environ.get("RATEBENCH_MIRROR")
    folders = [storage.cache_folder(), *([Path(mirror).expanduser()] if mirror else [])]
    return any((folder / CIFAR10).is_dir() for folder in folders)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long byte strings are named by their length: the processes of pytest-xdist must agree on every test's name."""
    return f"{argname} of {len(val)} bytes" if isinstance(val, bytes) and len(val) > 32 else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `mirror` where the real CIFAR-10 is neither in RATEBENCH_MIRROR nor in the cache."""
    marked = [item for item in items if item.get_closest_marker("mirror")]
    if marked and not _real_cifar10():
        skip = pytest.mark.skip(reason=f"needs {CIFAR10} in the folder RATEBENCH_MIRROR or in the cache folder")
        for item in marked:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Networks that a test makes are the same in every run, whichever tests ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def fresh_python() -> Callable[..., str]:
    """Run code in a Python process of its own, which finds the project and `tests`; returns what it prints.

    `root` is the checkout whose code it runs.
    """

    def run(code: str, *arguments: str | Path, timeout: float = 300, root: Path = ROOT) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": python_path(root, TESTS), "OMP_NUM_THREADS": "1"},
            cwd=root,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
