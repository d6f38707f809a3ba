"""A copy of the project's code in a folder of its own, which tests change as a developer would."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

import methods
from benchmarks import equivalents, fingerprint
from benchmarks.fingerprint import ROOT, Code
from benchmarks.running import cell
from benchmarks.running.cell import Cell
from benchmarks.running.params import plain
from methods.interface import Budget

Cells: TypeAlias = set[tuple[str, str]]  # (method, network)
Fingerprints: TypeAlias = dict[tuple[str, str], str]
NETWORKS = {"digits_cnn": "digits", "digits_resnet": "digits", "resnet20": "cifar10"}


class Copy:
    """Packages `benchmarks` and `methods` below the folder `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for package in ("benchmarks", "methods"):
            shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace the one place where a file says `old`."""
        text = (self.root / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} says {old!r} {text.count(old)} times"
        self.write(name, text.replace(old, new))

    def edit_everywhere(self, old: str, new: str | Callable[[re.Match[str]], str]) -> int:
        """Replace a regular expression in all files; returns in how many it stood."""
        changed = 0
        for file in self.files():
            text = (self.root / file).read_text(encoding="utf-8")
            if (again := re.sub(old, new, text)) != text:
                self.write(file, again)
                changed += 1
        return changed

    def files(self) -> list[str]:
        return sorted(file.relative_to(self.root).as_posix() for file in self.root.rglob("*.py"))

    def defines(self, pattern: str, folder: str) -> str:
        """The one file below a folder that has a line like this."""
        found = [
            name
            for name in self.files()
            if name.startswith(f"{folder}/") and re.search(pattern, (self.root / name).read_text("utf-8"), re.M)
        ]
        assert len(found) == 1, found
        return found[0]

    def stale(self, before: Fingerprints) -> Cells:
        """Whose fingerprints have changed."""
        return {key for key, value in self.fingerprints().items() if value != before[key]}

    def fingerprints(self) -> Fingerprints:
        """Of every method's default on every network, as a process that runs this code would give them."""
        with self.at_hand():
            return fingerprints()

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """Let this process name results as one that runs this code would."""
        code, places = Code(self.root), {key: methods.source(key).relative_to(ROOT) for key in methods.names()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fingerprint, "here", lambda: code)
            patch.setattr(cell, "here", lambda: code)
            patch.setattr(methods, "source", lambda key: self.root / places[key])
            patch.setattr(equivalents, "PLACE", self.root / equivalents.PLACE.relative_to(ROOT))
            equivalents.rows.cache_clear()
            try:
                yield
            finally:
                equivalents.rows.cache_clear()


def fingerprints() -> Fingerprints:
    """Of every method's default on every network, by the code at hand."""
    found = {}
    for method in methods.names():
        config = plain(methods.get(method).Config())
        for network, task in NETWORKS.items():
            known = Cell(task, task, network, method, config, Budget("post-training", 0.0), 0)
            found[method, network] = known.fingerprint()
    return found
