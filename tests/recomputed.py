"""The points of a suite as the files of the results have them: JSON and bits alone, without the suite's own code."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm, t

RESULTS, SUITE, ITEMS = Path(__file__).resolve().parent.parent / "results", "cifar10", 10_000


class Place:
    """The records of one point, one for each seed."""

    def __init__(self, files: list[tuple[Any, dict[str, Any]]]) -> None:
        self.first = files[0][1]
        scores = [known["metrics"]["top-1"] for _, known in files]
        shares = [100 * score["total"] / score["items"] for score in scores]
        self.value = float(np.mean(shares))
        self.between = float(np.var(shares, ddof=1)) / len(shares) if len(shares) > 1 else 0.0
        p = self.value / 100
        self.error = float(np.sqrt(1e4 * p * (1 - p) / scores[0]["items"] + self.between))
        self.of = self.first["provenance"]["data"].get("items")
        paths = [path.with_suffix(".items") for path, _ in files]
        self.bits: Any = None
        if all(path.exists() for path in paths):
            unpacked = [
                np.unpackbits(np.frombuffer(path.read_bytes(), np.uint8))[: scores[0]["items"]] for path in paths
            ]
            self.bits = 100 * np.mean(unpacked, axis=0)
        self.files = [known for _, known in files]

    def size(self, counted: str) -> float:
        if counted == "file":
            return float(np.mean([known["rate"]["file_bytes"] for known in self.files]))
        mask = self.first["counted"]["elements"] / 8 if counted == "values and mask" else 0
        return float(np.mean([4 * known["counted"]["nonzero"] for known in self.files])) + mask


def places(suite: str = SUITE) -> list[Place]:
    """Of a suite whose networks classify ITEMS images: CIFAR-10, MNIST."""
    found = defaultdict(list)
    for path in sorted((RESULTS / suite).glob("*/*/*/p*.json")):
        known = json.loads(path.read_text("utf-8"))
        place = (
            *(known[name] for name in ("network", "method", "config_hash", "budget", "index")),
            str(known["point"]),
        )
        found[place].append((path, known))
    return [Place(files) for files in found.values()]


def spread(is_paired: bool) -> Any:
    """The distribution of a difference over its standard error: Student's t over the test items."""
    return t(ITEMS - 1) if is_paired else norm
