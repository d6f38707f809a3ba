"""Damaged, truncated, foreign and hostile files: each gives a BitstreamError or a well-formed network, nothing else."""

from __future__ import annotations

import json
import pickle
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from goldens.costly import excessive
from goldens.hostile import deflated, hostile, opened, sealed
from goldens.mutations import MUTATIONS, Mutation, seal
from goldens.samples import FOLDER

from benchmarks.bitstream import bytes_by_role, codecs, container, decode
from benchmarks.errors import BitstreamError, RateBenchError

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:The truth value of an empty array")
resource = pytest.importorskip("resource", reason="memory is measured by a module that is there on Unix alone")

SIZES = {path.stem: path.stat().st_size for path in sorted(FOLDER.glob("*.rbn"))}


def file_of(name: str) -> bytes:
    return (FOLDER / f"{name}.rbn").read_bytes()


def outcome(data: bytes) -> str:
    """What decoding comes to; any exception but BitstreamError passes through and fails the test."""
    try:
        network = decode(data)
    except BitstreamError:
        return "refused"
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())
    assert sum(bytes_by_role(data).values()) == len(data)
    return "decoded"


@pytest.mark.parametrize("name", ["sparse", "surp.sequential", "ntk.packed", "ntk.seeded"])
def test_every_truncation_is_refused(name: str) -> None:
    data = file_of(name)
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            decode(data[:length])


def test_ten_thousand_changed_bytes_are_refused() -> None:
    r = random.Random(1)
    files = [file_of(name) for name in SIZES]
    for _ in range(10_000):
        data = bytearray(r.choice(files))
        data[r.randrange(len(data))] ^= r.randrange(1, 256)
        with pytest.raises(BitstreamError):
            decode(bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89",
        container.MAGIC,
        container.MAGIC + bytes(100),
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        pickle.dumps({"weight": [1.0, 2.0]}),
        random.Random(2).randbytes(5000),
        file_of("raw") + b"\0",
        file_of("raw") * 2,
        b"\0" + file_of("raw"),
    ],
    ids=["empty", "a byte", "magic", "zeros", "png", "zip", "pickle", "noise", "a byte more", "twice", "shifted"],
)
def test_foreign_files_are_refused(data: bytes) -> None:
    for reads in (decode, bytes_by_role):
        with pytest.raises(BitstreamError):
            reads(data)


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("name", SIZES)
def test_damage_under_a_valid_checksum_is_refused_or_well_formed(name: str, mutation: Mutation) -> None:
    if "." in name:
        try:
            codecs.get(name.partition("-")[0])
        except (RateBenchError, ImportError) as error:
            pytest.skip(str(error))
    data, r, seen = file_of(name), random.Random(f"{name} {mutation.__name__}"), Counter[str]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(150):
        changed = seal(mutation, *opened(data), r)
        start = time.process_time()
        seen[outcome(changed)] += 1
        assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 500 * 1024
    assert seen["refused"] > 0


@pytest.mark.parametrize(
    ("codec", "field", "values"),
    [
        ("constant", "value", [None, [], {}, "x", [1, 2], float("nan"), float("inf"), 1e300]),
        ("raw", "dtype", [None, [], {}, 1, "float64", "O", 2**63]),
        ("uniform", "per_channel", [None, 0, [], {}, [True, True], "xy", [[]] * 99, 2**63]),
        ("index", "limit", [None, [], "x", -1, 2**31 + 1, 2**64 - 1, 1e300, float("nan")]),
        ("index", "packed", [None, 0, [], [False, False], "xy", 2**63]),
        ("sparse", "kind", [None, [], {}, 7, "float64", "O", "uniform "]),
    ],
)
def test_meta_of_wrong_types_is_refused(codec: str, field: str, values: list[Any]) -> None:
    header, payload = opened(file_of(codec))
    entry = next(part for part in header[4] if part[0] == codec)
    assert outcome(sealed(deflated(msgspec.msgpack.encode(header)), payload)) == "decoded"
    for value in values:
        entry[2][field] = value
        assert outcome(sealed(deflated(msgspec.msgpack.encode(header)), payload)) == "refused", value
    del entry[2][field]
    assert outcome(sealed(deflated(msgspec.msgpack.encode(header)), payload)) == "refused"


HOSTILE_FILES = hostile() | excessive()
JUDGE = """
import json, resource, sys, pathlib, time
from benchmarks.bitstream import decode
from benchmarks.errors import BitstreamError
paths = [pathlib.Path(p) for p in sys.argv[1:]]
decode(paths[0].read_bytes())
statm = pathlib.Path("/proc/self/statm")
if statm.exists():
    limit = int(statm.read_text().split()[0]) * resource.getpagesize() + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in paths[1:]:
    data, before, start = path.read_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        decode(data)
        end = "decoded"
    except BitstreamError:
        end = "refused"
    except BaseException as error:
        end = repr(error)[:300]
    rise = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([end, rise, time.process_time() - start]))
"""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory, fresh_python: Callable[..., str]) -> dict[str, list[Any]]:
    """What became of each hostile file, by how many KiB it raised the peak memory of a fresh process, and its seconds."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    paths = [folder / f"{i}.rbn" for i in range(len(HOSTILE_FILES))]
    for path, data in zip(paths, HOSTILE_FILES.values(), strict=True):
        path.write_bytes(data)
    lines = fresh_python(JUDGE, FOLDER / "raw.rbn", *paths).splitlines()
    return dict(zip(HOSTILE_FILES, map(json.loads, lines), strict=True))


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_hostile_file_is_refused_in_little_memory_and_time(name: str, verdicts: dict[str, list[Any]]) -> None:
    end, kibibytes, seconds = verdicts[name]
    assert end == "refused"
    assert kibibytes < 128 * 1024
    assert seconds < 5
