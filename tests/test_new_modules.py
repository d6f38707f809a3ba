"""Kinds of module that a method brings, tensors without axes, and what a result depends on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from contributed import piecewise_constant, quantised_conv2d, sine
from goldens.hostile import built
from goldens.samples import digest, floats, integers, whole
from hypothesis import given
from hypothesis import strategies as st
from places import python_path
from test_modules import KINDS, random, refusal
from torch import Tensor, nn
from torch.nn import functional as F

import methods
from benchmarks import fingerprint, networks
from benchmarks.bitstream import decode, encode, modules
from benchmarks.bitstream.codecs import codebook, constant, index, mask, raw, sparse, uniform
from benchmarks.errors import BitstreamError, MethodError
from methods.baselines import reference
from methods.interface import Compressed, Part


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The method of tests/contributed, found as one of another distribution is: by its entry point."""
    info = tmp_path / "contributed-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: contributed\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{methods.ENTRY_POINTS}]\ncontributed = contributed\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", python_path(tmp_path))
    methods._locations.cache_clear()
    yield
    methods._locations.cache_clear()


def contributed_network() -> Compressed:
    """A piecewise-constant activation, a convolution with an activation quantiser, and a sine layer."""
    edits = {
        "2": piecewise_constant.spec(pieces=5),
        "3": quantised_conv2d.spec(4, 8, kernel_size=3, padding=1, bits=4),
        "12": sine.spec(8, 10, omega=30.0),
    }
    rising = np.array([-0.5, 0.0, 0.25, 2.0], np.float32)
    parts = [
        raw.part(["2.thresholds"], [rising], "codebooks"),
        codebook.part(["3.weight"], integers((288, 1), 0, 16), floats((1, 16, 1)) - 1, [0.5]),
        uniform.part(["3.step", "12.linear.weight"], [9, integers((10, 8), -8, 8)], [0.125, 0.0625], "weights"),
    ]
    return whole(parts, edits)


def test_kinds_of_a_method_run_in_a_fresh_process(
    installed: None, tmp_path: Path, fresh_python: Callable[..., str]
) -> None:
    data = encode(contributed_network())
    (tmp_path / "x.rbn").write_bytes(data)
    code = """
import json, sys
from pathlib import Path
import torch
from goldens.samples import digest
from benchmarks.bitstream import decode
torch.set_num_threads(1)
network = decode(Path(sys.argv[1]).read_bytes())
print(digest(network), json.dumps(network(torch.arange(128.0).reshape(2, 1, 8, 8) / 64 - 1).tolist()))
"""
    network = decode(data)
    name, outputs = fresh_python(code, tmp_path / "x.rbn").split(" ", 1)
    assert name == digest(network)
    x = torch.arange(128.0).reshape(2, 1, 8, 8) / 64 - 1
    assert torch.equal(torch.tensor(json.loads(outputs)), network(x))

    # what they compute, by hand
    steps, convolution, last = network[2], network[3], network[12]
    assert steps(torch.tensor([-9.0, -0.25, 0.125, 1.0, 9.0])).tolist() == steps.levels.tolist()
    assert convolution.step.shape == () and float(convolution.step) == 9 * 0.125
    y = random(2, 4, 5, 5) * 9
    rounded = (y / 1.125).round().clamp(0, 15) * 1.125
    assert torch.equal(convolution(y), F.conv2d(rounded, convolution.weight, padding=1))
    assert torch.equal(last(y.mean((2, 3)).repeat(1, 2)), (30.0 * last.linear(y.mean((2, 3)).repeat(1, 2))).sin())


def test_kinds_of_a_method_are_bounded_and_named(installed: None) -> None:
    assert refusal(built("contributed.sin")) == (
        "module '2' can't be built: unknown kind of module of method 'contributed' 'sin': did you mean 'sine'?"
    )
    lacking = refusal(built("contributed.sine", in_features=1, out_features=1))
    assert lacking == "module '2' can't be built as contributed.sine: it lacks the argument omega"
    wrong = built("contributed.sine", in_features=1, out_features=1, omega=-1)
    assert refusal(wrong) == (
        "module '2' can't be built as contributed.sine: omega has to be a number above 0, up to 1000, not -1"
    )


def test_a_file_of_a_method_that_is_not_there_is_refused() -> None:
    with pytest.raises(BitstreamError, match="module '2' can't be built: unknown method 'contributed'"):
        encode(contributed_network())


# Tensors without axes


def with_step(part: Part) -> Tensor:
    """What a file gives for a scalar parameter."""
    network = decode(encode(whole([part], {"3": quantised_conv2d.spec(4, 8, kernel_size=3, padding=1, bits=4)})))
    step: Tensor = network[3].step
    assert step.shape == () and isinstance(step, nn.Parameter)
    return step


WORDS = floats((2, 4, 3)) - 1
SCALARS: dict[str, tuple[Part, float]] = {
    "raw": (raw.part(["3.step"], [0.1], "weights"), float(np.float32(0.1))),
    "raw fp16": (raw.part(["3.step"], [-0.75], "weights", "float16"), -0.75),
    "uniform": (uniform.part(["3.step"], [-7], [0.25], "weights"), -1.75),
    "sparse": (sparse.part(["3.step"], [0.5], "weights"), 0.5),
    "sparse zero": (sparse.part(["3.step"], [0], "weights"), 0.0),
    "sparse codes": (sparse.part(["3.step"], [3], "weights", steps=[0.5]), 1.5),
    "sparse code zero": (sparse.part(["3.step"], [0], "weights", steps=[0.5]), 0.0),
    "constant": (constant.part(["3.step"], 0.375, "weights"), 0.375),
    "index": (index.part(["3.step"], [5], 9), 5.0),
    "mask": (mask.part(["3.step"], [True]), 1.0),
    "mask off": (mask.part(["3.step"], [False]), 0.0),
    "codebook": (codebook.part(["3.step"], [[1, 2]], WORDS, [2.0]), float(2 * (WORDS[0, 1, 0] + WORDS[1, 2, 0]))),
    "product": (codebook.part(["3.step"], [[3, 0]], WORDS, [2.0], "product"), float(2 * WORDS[0, 3, 0])),
    "masked": (
        codebook.part(["3.step"], [[3, 0]], WORDS, [0.5], "product", masks=[True]),
        float(0.5 * WORDS[0, 3, 0]),
    ),
    "masked out": (
        codebook.part(["3.step"], np.zeros((0, 2)), WORDS, [0.5], "product", masks=[False]),
        0.0,
    ),
}


@pytest.mark.parametrize("name", SCALARS)
def test_every_codec_fills_a_scalar(name: str, installed: None) -> None:
    part, value = SCALARS[name]
    assert float(with_step(part)) == value


def test_a_scalar_has_no_channels(installed: None) -> None:
    with pytest.raises(BitstreamError, match="a uniform part has the wrong number of steps"):
        with_step(uniform.part(["3.step"], [3], [[0.5]], "weights"))
    with pytest.raises(BitstreamError, match="a scale per channel is given for a tensor without channels"):
        with_step(codebook.part(["3.step"], [[1, 2]], WORDS, [[0.5]]))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_scalar_shares_a_part_with_other_tensors(value: float) -> None:
    """Beside a tensor with axes and another without: each gets its own values, to the bit."""
    own = np.array(value, np.float32)
    vector = floats((10,))
    shapes = [(), (10,), ()]
    coded = raw.encode(raw.part(["a", "b", "c"], [own, vector, -own], "weights"))
    found = raw.decode(coded.meta, [stream for _, stream in coded.streams], shapes)
    assert [a.shape for a in found] == shapes
    assert [a.tobytes() for a in found] == [own.tobytes(), vector.tobytes(), (-own).tobytes()]


class Tempered(nn.Module):
    """An architecture with a scalar of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.temperature = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) / self.temperature


def test_the_reference_stores_scalars_of_an_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "build", lambda *_: Tempered())
    network = Tempered()
    task: Any = SimpleNamespace(architecture="tempered", arguments={}, reference=lambda: network)
    exact = decode(encode(next(reference.compress(task, reference.Config(), None))))  # type: ignore[arg-type]
    assert digest(exact) == digest(network)


class Permuted(nn.Module):
    """An architecture with integers of its own."""

    def __init__(self, largest: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("places", torch.tensor([2049, -3, largest]))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def test_the_reference_stores_integers_exactly_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """fp16 would round 2,049 to 2,048."""
    monkeypatch.setattr(networks, "build", lambda *_: Permuted(0))
    task: Any = SimpleNamespace(architecture="permuted", arguments={}, reference=lambda: Permuted(2**24))
    for compressed in reference.compress(task, reference.Config(), None):  # type: ignore[arg-type]
        assert decode(encode(compressed)).places.tolist() == [2049, -3, 2**24]  # type: ignore[union-attr,operator]
    task.reference = lambda: Permuted(2**24 + 1)
    with pytest.raises(MethodError, match=r"^places has integers beyond ±16,777,216, which fp32 can't hold exactly$"):
        next(reference.compress(task, reference.Config(), None))  # type: ignore[arg-type]


# What a result depends on


def test_results_depend_on_the_kinds_that_their_method_imports() -> None:
    def kinds(*starts: str) -> set[str]:
        folder = Path(modules.__file__).parent
        return {file.stem for file in fingerprint.sources(*starts) if file.parent == folder}

    assert kinds("methods.baselines.uniform") == kinds("benchmarks.bitstream.container") == set()
    assert kinds("methods.baselines.svd") == kinds("methods.baselines.tucker") == {"conv2d", "sequential"}
    assert kinds("methods.jsvd") == {"conv2d", "sequential", "joined_conv2d"}
    cut = {"avg_pool2d", "batch_norm2d", "conv2d", "gather", "identity", "linear", "sequential"}
    assert kinds("methods.baselines.l1_filter") == kinds("methods.families.structured") == cut
    for name, file in KINDS.items():
        assert kinds(f"benchmarks.bitstream.modules.{file}") == {file}, name


NEW = '''"""Each channel times a number of its own."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.bitstream.bounds import SIZE, checked, no_children
from methods.interface import ModuleSpec


class ChannelScale(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.empty(channels, 1, 1))

    def forward(self, x):
        return x * self.scale


def spec(channels):
    return ModuleSpec("ChannelScale", {"channels": channels})


def build(arguments, children):
    no_children(children)
    return ChannelScale(**checked(arguments, {"channels": SIZE}))
'''
USED = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from goldens.samples import whole
from benchmarks.bitstream import decode, encode, modules
from benchmarks.bitstream.modules import channel_scale
assert modules.__file__.startswith(sys.argv[1])
network = decode(encode(whole([], {"2": channel_scale.spec(4)})))
x = torch.ones(1, 4, 2, 2)
print(torch.equal(network[2](x), x * network[2].scale))
"""


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the project's code, which fingerprints are taken of."""
    for package in fingerprint.PROJECT:
        shutil.copytree(
            fingerprint.ROOT / package, tmp_path / package, ignore=lambda _, names: {"__pycache__", "perf"} & set(names)
        )
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    fingerprint.forget()
    yield tmp_path
    monkeypatch.undo()
    fingerprint.forget()


def test_a_new_kind_is_one_new_file_and_makes_nothing_stale(copied: Path, fresh_python: Callable[..., str]) -> None:
    places = [place for place in methods._locations().values() if place.startswith("methods.")]

    def hashes() -> dict[str, str]:
        fingerprint.forget()
        scoring = ("benchmarks.bitstream.container", "benchmarks.evaluation.worker")
        return {place: fingerprint.code_hash(fingerprint.sources(place, *scoring)) for place in places}

    before = hashes()
    folder = copied / "benchmarks/bitstream/modules"
    (folder / "channel_scale.py").write_text(NEW, encoding="utf-8")
    assert fresh_python(USED, copied).split() == ["True"]
    assert hashes() == before
    with (folder / "joined_conv2d.py").open("a") as file:  # a line in a kind that is there: those who use it alone
        file.write("\nMOST = 4\n")
    after = hashes()
    assert {place for place in places if after[place] != before[place]} == {"methods.jsvd"}


@pytest.mark.parametrize("package", ["methods.families.structured", "methods.families.lowrank"])
def test_no_family_of_methods_knows_a_network(package: str) -> None:
    assert not [f for f in fingerprint.sources(package) if f.parent.name == "networks" and f.name != "__init__.py"]
