"""What the tests of the report share: invented records, and a page as a browser would see it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import methods
from benchmarks import records
from benchmarks.evaluation import metrics
from benchmarks.records import CellState, Record
from methods.interface import Card

SUITE = "invented"
REFERENCE_BYTES = 40_000


def made(method: str = "alpha", seed: int = 0, index: int = 0, **changes: Any) -> Record:
    """An invented record; keyword arguments replace fields, `correct` and `file_bytes` what follows from them too."""
    correct, size = changes.pop("correct", 900 - 50 * index), changes.pop("file_bytes", 10_000 // (index + 1) + seed)
    network, budget = changes.pop("network", "net"), changes.pop("budget", "post-training")
    config = changes.pop("config", {"mode": "plain", "steps": 3})
    config_hash = hashlib.sha256(json.dumps(config).encode()).hexdigest()[:8]
    low, high = metrics.wilson(correct, 1000)
    fields: dict[str, Any] = {
        "schema": records.SCHEMA,
        "id": f"{SUITE}/{network}/{method}/{config_hash}-{budget}-s{seed}/p{index:02d}",
        "suite": SUITE,
        "task": "digits",
        "network": network,
        "method": method,
        "fidelity": "reconstruction",
        "config": config,
        "config_hash": config_hash,
        "budget": budget,
        "epochs": 0,
        "seed": seed,
        "index": index,
        "point": {"sparsity": 0.5 + 0.1 * index},
        "rate": records.Rate(
            file_bytes=size,
            by_role={"weights": size - 300, "norm_bias": 200, "header": 100},
            uncompressed_bytes=REFERENCE_BYTES,
            ratio=REFERENCE_BYTES / size,
            bits_per_weight=8 * size / (REFERENCE_BYTES / 4),
        ),
        "counted": records.Counted(elements=10_000, nonzero=5_000 - 1_000 * index, macs=1_234_567),
        "metrics": {
            "top-1": records.Score(items=1000, total=correct, squares=correct, value=correct / 1000, low=low, high=high)
        },
        "speed": records.Speed(
            device="a processor",
            threads=2,
            encode_s=0.5,
            decode_s=0.1 / 3,
            latency_ms_batch1=1.0 + seed / 7,
            latency_ms_batch128=30.0,
        ),
        "wall_s": 12.5,
        "provenance": records.Provenance(
            fingerprint="0123456789abcdef",
            commit="c" * 40,
            dirty=False,
            command=f"ratebench run {SUITE} --method {method}",
            started=f"2026-01-0{seed + 1}T10:00:00+00:00",
            versions={"python": "3.11"},
            cpu="a processor",
            gpu=None,
            data={"data": "md5:0"},
            artefact_sha256="a" * 64,
        ),
    }
    return Record(**{**fields, **changes})


def curve(method: str, sizes: list[int], correct: list[int]) -> list[Record]:
    return [
        made(method, index=i, file_bytes=size, correct=c)
        for i, (size, c) in enumerate(zip(sizes, correct, strict=True))
    ]


def reference(network: str = "net") -> Record:
    return made("plain", network=network, file_bytes=REFERENCE_BYTES, correct=950, fidelity="baseline", config={})


def several() -> list[Record]:
    curves = [made(seed=seed, index=index) for seed in (0, 1, 2) for index in (0, 1)]
    other = [made("beta", index=i, network="other", fidelity="paper", budget="short", epochs=5) for i in (0, 1, 2)]
    return [*curves, *other, reference(), reference("other")]


def everything() -> list[Record]:
    """`several` and more: another configuration, a narrower network on another machine, times that are not known."""
    slim = records.Counted(elements=9_000, nonzero=9_000, macs=700_000)
    elsewhere = msgspec.structs.replace(made().speed, device="another processor", threads=1, latency_ms_batch128=None)
    extra = {"counted": slim, "speed": elsewhere, "notes": {"redundancy_macs": 0.3}}
    beta = [made("beta", seed=seed, correct=870, file_bytes=9000, fidelity="baseline", **extra) for seed in (0, 1)]
    unlike = [made("gamma", seed=seed, correct=correct) for seed, correct in ((0, 700), (1, 940))]
    return [*several(), *beta, *unlike, made(config={"mode": "plain", "steps": 4}, correct=910)]


@dataclass(frozen=True)
class Config:
    """Settings of the invented method "alpha"."""

    mode: str = "plain"
    steps: int = 3


CARD = Card(
    "alpha", "On % & _", ("A. Author",), "Venue", 2020, ("pruning",), "reconstruction", note="From its abstract."
)
README = """# alpha

| setting | the published algorithm | what is done here instead of it |
|---|---|---|
| `stopping_criterion_of_the_search` | `until_no_weight_lies_above_the_threshold` | `after_a_fixed_number_of_steps` |
"""
REPORTED = """
[[row]]
task = "digits"
network = "net"
point = { sparsity = 0.5 }
metric = "top-1"
value = 91.2
baseline = 95.5
size = { value = 5, unit = "ratio", counts = "weights only" }
source = "Table 1"

[[row]]
task = "digits"
network = "net"
point = { sparsity = 0.9 }
metric = "error"
value = 12
size = { value = 8, unit = "ratio", counts = "file" }
source = "Table 2"

[[row]]
task = "digits"
network = "net"
metric = "claim"
value = 0
source = "abstract"
comparable = "there is no number in the abstract"

[[row]]
task = "digits"
network = "net"
metric = "top-1"
value = 93.3
size = { value = 6, unit = "ratio", counts = "file" }
source = "another paper's Table 3"
context = true
"""
CLAIMS = """
[[claim]]
text = "alpha beats beta"
source = "Section 4"
task = "digits"
budget = "post-training"
at = "sparsity"
better = { method = "alpha" }
worse = { method = "beta" }

[[observation]]
text = "a part is redundant"
source = "abstract"
task = "digits"
budget = "post-training"
of = { method = "beta" }
note = "redundancy_macs"
above = 0.2
"""


def publish(package: Path, patch: pytest.MonkeyPatch) -> None:
    """Make "alpha" a method at hand: with a card, a README, and what its paper reports and claims."""
    from benchmarks.records import described as cards

    package.mkdir()
    for name, content in {"README.md": README, "reported.toml": REPORTED, "claims.toml": CLAIMS}.items():
        (package / name).write_text(content)
    alpha = SimpleNamespace(CARD=CARD, Config=Config)
    names, source, method = methods.names(), methods.source, cards._method
    patch.setattr(methods, "names", lambda: [*names, "alpha"])
    patch.setattr(methods, "source", lambda key: package if key == "alpha" else source(key))
    patch.setattr(cards, "_method", lambda key: alpha if key == "alpha" else method(key))


def store(results: Path, records: list[Record]) -> Path:
    """Write records and the states of their cells; names that are no path are stored under another one."""
    for number, known in enumerate(records):
        parts = known.id.split("/")
        place = known.id if len(parts) == 5 and "<" not in known.id else f"{SUITE}/x/y{number}/z-s0/p00"
        records.write(results / f"{place}.json", known)
        records.write((results / place).parent / "cell.json", CellState(records.SCHEMA, "x", "complete", 1, 1.0))
    return results


class Page(HTMLParser):
    """What a browser would see: scripts by id or position, and whatever names a resource."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.resources: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self._script: str | None = None
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = dict(attributes)
        self.handlers += [name for name in known if name.startswith("on")]
        self.resources += [known[name] or "" for name in ("src", "srcset", "data", "poster", "action") if name in known]
        if "href" in known:
            (self.links if tag == "a" else self.resources).append(known["href"] or "")
        if tag == "script":
            self._script = known.get("id") or f"script {len(self.scripts)}"
            self.scripts[self._script] = ""

    def handle_endtag(self, tag: str) -> None:
        self._script = None if tag == "script" else self._script

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] += data

    @property
    def data(self) -> Any:
        return json.loads(gzip.decompress(base64.b64decode(self.scripts["data"])))

    @property
    def records(self) -> Any:
        return json.loads(gzip.decompress(base64.b64decode(self.scripts["records"])))
