"""What the tests of the report share: invented records, and a page as a browser would see it."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

import methods
from benchmarks import records as recorded
from benchmarks import tasks
from benchmarks.configuration import config_hash
from benchmarks.evaluation.metrics import interval, sums, wilson
from benchmarks.records import CellState, Record, Score, described
from benchmarks.records.latency import Architecture, Latencies, Milliseconds
from methods.interface import Card, Metric

SUITE = "invented"
REFERENCE_BYTES = 40_000
RMSE = Metric("rmse", "mm", "mean", "Root-mean-square error of the positions", more_is_better=False, decimals=3)
PSNR = Metric("psnr", "dB", "mean", "Peak signal-to-noise ratio of the decoded images")
SSIM = Metric("ssim", "", "mean", "Structural similarity of the decoded images", decimals=4)


def invent_task(patch: pytest.MonkeyPatch, name: str, *metrics: Metric) -> None:
    """A task that is at hand as long as the patch: its metrics are all that records and reports ask of it."""
    names, get = tasks.names, tasks.get
    module = SimpleNamespace(METRICS=metrics, NETWORKS={"net": None})
    patch.setattr(tasks, "names", lambda: [*names(), name])
    patch.setattr(tasks, "get", lambda key: module if key == name else get(key))


def counted(correct: int, items: int = 1000) -> Score:
    """A proportion of so many items."""
    low, high = wilson(correct, items)
    return Score(items=items, total=correct, squares=correct, value=correct / items, low=low, high=high)


def averaged(metric: Metric, values: Sequence[float]) -> Score:
    """The score of one value per item."""
    found = sums(torch.tensor(values, dtype=torch.float64))
    low, high = interval(metric, found)
    return Score(items=found.items, total=found.total, squares=found.squares, value=found.value, low=low, high=high)


def around(metric: Metric, mean: float, deviation: float = 1.0, items: int = 24) -> Score:
    """The score of items that lie `deviation` to either side of a mean."""
    return averaged(metric, [mean + (deviation if i % 2 else -deviation) for i in range(items)])


def made(method: str = "alpha", seed: int = 0, index: int = 0, **changes: Any) -> Record:
    """An invented record; keyword arguments replace fields, `correct` and `file_bytes` what follows from them, too."""
    correct, size = changes.pop("correct", 900 - 50 * index), changes.pop("file_bytes", 10_000 // (index + 1) + seed)
    network, budget = changes.pop("network", "net"), changes.pop("budget", "post-training")
    config = changes.pop("config", {"mode": "plain", "steps": 3})
    suite, cell_hash = changes.get("suite", SUITE), changes.get("config_hash", config_hash(config))
    fields: dict[str, Any] = {
        "schema": recorded.SCHEMA,
        "id": f"{suite}/{network}/{method}/{cell_hash}-{budget}-s{seed}/p{index:02d}",
        "suite": suite,
        "task": "digits",
        "network": network,
        "method": method,
        "fidelity": "reconstruction",
        "config": config,
        "config_hash": cell_hash,
        "budget": budget,
        "epochs": 0,
        "seed": seed,
        "index": index,
        "point": {"sparsity": 0.5 + 0.1 * index},
        "rate": recorded.Rate(
            file_bytes=size,
            by_role={"weights": size - 300, "norm_bias": 200, "header": 100},
            uncompressed_bytes=REFERENCE_BYTES,
            ratio=REFERENCE_BYTES / size,
            bits_per_weight=8 * size / (REFERENCE_BYTES / 4),
        ),
        "counted": recorded.Counted(elements=10_000, nonzero=max(0, 5_000 - 1_000 * index), macs=1_234_567),
        "metrics": {"top-1": counted(correct)},
        "speed": recorded.Speed(
            device="a processor",
            threads=2,
            encode_s=0.5,
            decode_s=0.1 / 3,
            latency_ms_batch1=1.0 + seed / 7,
            latency_ms_batch128=30.0,
        ),
        "wall_s": 12.5,
        "provenance": recorded.Provenance(
            fingerprint="0123456789abcdef",
            commit="c" * 40,
            dirty=False,
            command=f"ratebench run {suite} --method {method} --network {network} --budget {budget} --seed {seed}",
            started=f"2026-01-0{seed + 1}T10:00:00+00:00",
            versions={"python": "3.11"},
            cpu="a processor",
            gpu=None,
            data={"data": f"md5:{'0' * 32}"},
            artefact_sha256="a" * 64,
        ),
    }
    return Record(**{**fields, **changes})


def curve(method: str, sizes: list[int], correct: list[int]) -> list[Record]:
    return [
        made(method, index=i, file_bytes=size, correct=c)
        for i, (size, c) in enumerate(zip(sizes, correct, strict=True))
    ]


def scored_curve(
    method: str, task: str, sizes: list[int], scores: list[dict[str, Score]], **changes: Any
) -> list[Record]:
    """Points of a method on a task with other metrics than top-1."""
    return [
        made(method, index=i, file_bytes=size, task=task, metrics=score, **changes)
        for i, (size, score) in enumerate(zip(sizes, scores, strict=True))
    ]


def reference(network: str = "net") -> Record:
    return made("plain", network=network, file_bytes=REFERENCE_BYTES, correct=950, fidelity="baseline", config={})


def several() -> list[Record]:
    curves = [made(seed=seed, index=index) for seed in (0, 1, 2) for index in (0, 1)]
    other = [made("beta", index=i, network="other", fidelity="paper", budget="short", epochs=5) for i in (0, 1, 2)]
    return [*curves, *other, reference(), reference("other")]


def everything() -> list[Record]:
    """`several` and more: another configuration, a narrower network on another machine, times that are not known."""
    slim = recorded.Counted(elements=9_000, nonzero=9_000, macs=700_000)
    elsewhere = msgspec.structs.replace(made().speed, device="another processor", threads=1, latency_ms_batch128=None)
    extra = {"counted": slim, "speed": elsewhere, "notes": {"redundancy_macs": 0.3}}
    beta = [made("beta", seed=seed, correct=870, file_bytes=9000, fidelity="baseline") for seed in (0, 1)]
    places = [msgspec.structs.replace(one.provenance, cpu="another processor") for one in beta]
    beta = [msgspec.structs.replace(one, provenance=place, **extra) for one, place in zip(beta, places, strict=True)]
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
    package.mkdir()
    for name, content in {"README.md": README, "reported.toml": REPORTED, "claims.toml": CLAIMS}.items():
        (package / name).write_text(content)
    alpha = SimpleNamespace(CARD=CARD, Config=Config)
    names, source, method = methods.names(), methods.source, described._method
    patch.setattr(methods, "names", lambda: [*names, "alpha"])
    patch.setattr(methods, "source", lambda key: package if key == "alpha" else source(key))
    patch.setattr(described, "_method", lambda key: alpha if key == "alpha" else method(key))


def store(results: Path, records: list[Record]) -> Path:
    """Write records and the states of their cells."""
    points: dict[Path, int] = {}
    for known in records:
        path = results / f"{known.id}.json"
        recorded.write(path, known)
        points[path.parent] = max(points.get(path.parent, 0), known.index + 1)
    for folder, count in points.items():
        ended = CellState(recorded.SCHEMA, known.provenance.fingerprint, "complete", count, 1.0)
        recorded.write(folder / "cell.json", ended)
    return results


def timed(*artefacts: str, network: str = "net", ms: float = 1.25) -> Latencies:
    """Latencies of one architecture: `ms` for a batch of 1, and 32 times that for 128."""
    times = [Milliseconds(median=each, low=each * 0.96, high=each * 1.2) for each in (ms, 32 * ms)]
    own = Architecture(
        key=f"{network}{ms}", batch1=times[0], batch128=times[1], artefacts=list(artefacts), records=["a record"]
    )
    return Latencies(
        suite=SUITE,
        task="digits",
        network=network,
        device="an idle processor",
        threads=1,
        rounds=3,
        load=0.1,
        started="2026-01-05T10:00:00+00:00",
        commit=None,
        dirty=None,
        versions={},
        architectures=[own],
    )


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
