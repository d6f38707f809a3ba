"""Latencies of architectures, timed one after another on an idle machine: one file for each network of a suite.

The networks of different files, and of different records, are not timed together: only values in one such file are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks import storage
from benchmarks.errors import RecordError
from benchmarks.records import regular
from benchmarks.records.rows import Row
from benchmarks.records.schema import Amount, Commit, Name, Positive, Sha256

BATCHES = (1, 128)
NAME = "latency.json"  # in the folder of a network
LIMIT = 64 * 2**20  # bytes of the file


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Milliseconds(_Strict, frozen=True):
    """Of a forward pass: the median over rounds, and the quartiles."""

    median: Amount
    low: Amount
    high: Amount


class Architecture(_Strict, frozen=True):
    """One architecture, whatever its weights: its latency, the artefacts that have it, and the ids of their records.

    `key` is a hash of the architecture. `batch128` is None if a CPU would need gigabytes for the activations.
    """

    key: str
    batch1: Milliseconds
    batch128: Milliseconds | None
    artefacts: list[Sha256]
    records: list[str]

    def of(self, batch: int) -> Milliseconds | None:
        """The latency of one of BATCHES."""
        return self.batch1 if batch == BATCHES[0] else self.batch128


class Latencies(_Strict, frozen=True):
    """The architectures of a network that were timed together, in interleaved rounds; `load` is the load average before."""

    suite: Name
    task: Name
    network: Name
    device: str
    threads: Positive
    rounds: Positive
    load: Amount
    started: str
    commit: Commit | None
    dirty: bool | None
    versions: dict[str, str]
    architectures: list[Architecture]

    @property
    def machine(self) -> str:
        return f"{self.device}, {self.threads} {'thread' if self.threads == 1 else 'threads'} used"


@dataclass(frozen=True)
class Timed:
    """The latency of an artefact, and the machine on which it was timed."""

    architecture: Architecture
    machine: str


def write(results: Path, latencies: Latencies) -> Path:
    """Store the latencies of a network atomically, instead of earlier ones; return the path."""
    path = results / latencies.suite / latencies.network / NAME
    storage.write(path, msgspec.json.format(msgspec.json.encode(latencies), indent=1) + b"\n")
    return path


def read(path: Path) -> Latencies:
    """The latencies in a file; raises RecordError if it can't be read or holds something else."""
    try:
        return msgspec.json.decode(regular.read(path, LIMIT), type=Latencies)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = f"{path} holds no latencies ({error}): restore it, or let `ratebench time` write it again"
        raise RecordError(msg) from error


def load(results: Path, suite: str) -> dict[str, Timed]:
    """What was timed of a suite, by the SHA-256 of the artefact; raises RecordError for a damaged file."""
    return dict(_timed(paths(results, suite)))


def paths(results: Path, suite: str) -> list[Path]:
    """The files with latencies of a suite."""
    return sorted((results / suite).glob(f"[!.]*/{NAME}"))


def of_row(row: Row, timed: Mapping[str, Timed]) -> Timed | None:
    """What was timed of a row; None unless the artefacts of all its seeds were timed and have one architecture."""
    found = [timed.get(r.provenance.artefact_sha256) for r in row.records]
    one = found[0]
    same = all(other and one and other.architecture.key == one.architecture.key for other in found)
    return one if same else None


def _timed(files: Sequence[Path]) -> Iterator[tuple[str, Timed]]:
    for path in files:
        known = read(path)
        for one in known.architectures:
            yield from ((artefact, Timed(one, known.machine)) for artefact in one.artefacts)
