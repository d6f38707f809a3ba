"""Times the architectures among a suite's artefacts, one after another in interleaved rounds, on an idle machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import bitstream, tasks
from benchmarks.bitstream import container
from benchmarks.errors import RateBenchError
from benchmarks.evaluation import measure, work
from benchmarks.evaluation.worker import LATENCY_BATCH, MOST
from benchmarks.fingerprint import json_hash
from benchmarks.records import Record
from benchmarks.records.latency import Architecture, Latencies, Milliseconds
from benchmarks.running import environment

ROUNDS = 7
SECONDS = 0.1  # of an architecture at a batch size in a round, at least
IDLE = 0.5  # the largest load average of an idle machine: half of one processor, this command's start included


@dataclass
class _Candidate:
    """An architecture with the network of its first artefact, on the device."""

    network: nn.Module
    artefacts: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)


def check_idle() -> float:
    """The load average over the last minute; raises RateBenchError if other programs use the machine."""
    load = os.getloadavg()[0]
    if load > IDLE:
        msg = (
            f"this machine is not idle: its load average over the last minute is {load:.2f}, more than {IDLE}; "
            "wait until other programs have ended, then run the command again"
        )
        raise RateBenchError(msg)
    return load


def timed(recorded: Mapping[Path, Record], device: torch.device, load: float, warn: Callable[[str], None]) -> Latencies:
    """The latencies of the artefacts beside records of one network, which `recorded` maps from their files.

    An artefact that is not there is left out, and so is one that is not the file of its record (with a warning). Raises
    RateBenchError if there is none, and BitstreamError for one that can't be decoded.
    """
    first, started = next(iter(recorded.values())), datetime.now(UTC).isoformat(timespec="seconds")
    candidates: dict[str, _Candidate] = {}
    for known, data in _artefacts(recorded, warn):
        key = _architecture(data)
        if key not in candidates:
            candidates[key] = _Candidate(bitstream.decode(data))
        one = candidates[key]
        one.artefacts.append(known.provenance.artefact_sha256)
        one.records.append(known.id)
    if not candidates:
        msg = (
            f"no artefact of {first.suite}/{first.network} is beside its records: "
            f"`ratebench run {first.suite} --results FOLDER` makes them elsewhere"
        )
        raise RateBenchError(msg)
    example = tasks.get(first.task).test(first.network).example.to(device)
    for one in candidates.values():
        one.network.to(device)
    found = _rounds([one.network for one in candidates.values()], example)
    commit, dirty = environment.commit()
    return Latencies(
        suite=first.suite,
        task=first.task,
        network=first.network,
        device=environment.gpu() or environment.cpu(),
        threads=torch.get_num_threads(),
        rounds=ROUNDS,
        load=load,
        started=started,
        commit=commit,
        dirty=dirty,
        versions=environment.versions(),
        architectures=[
            Architecture(key=key, batch1=one, batch128=many, artefacts=known.artefacts, records=known.records)
            for (key, known), (one, many) in zip(candidates.items(), found, strict=True)
        ],
    )


def _artefacts(recorded: Mapping[Path, Record], warn: Callable[[str], None]) -> Iterator[tuple[Record, bytes]]:
    for place, known in recorded.items():
        path = place.with_suffix(".rbn")
        if not path.exists():
            continue
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == known.provenance.artefact_sha256:
            yield known, data
        else:
            warn(f"left out: {path} is not the file of its record")


def _architecture(data: bytes) -> str:
    """A hash of what the decoder builds from a file, without weights; raises BitstreamError for a damaged file."""
    header, _ = container._parse(data)  # not public: its name is part of every fingerprint
    return json_hash(msgspec.to_builtins([header.architecture, header.arguments, header.edits]))[:16]


def _rounds(networks: list[nn.Module], example: Tensor) -> list[tuple[Milliseconds, Milliseconds | None]]:
    """For each network, the latency of 1 item and of 128; in a round, each network is timed once at each batch size."""
    times: dict[tuple[int, int], list[float]] = {}
    fits = [_fits(network, example) for network in networks]
    for _ in range(ROUNDS):
        for place, network in enumerate(networks):
            for batch in (1, LATENCY_BATCH) if fits[place] else (1,):
                took = measure.latency_ms(network, example, batch, SECONDS)
                times.setdefault((place, batch), []).append(took)
    return [
        (_summary(times[place, 1]), _summary(times[place, LATENCY_BATCH]) if fits[place] else None)
        for place in range(len(networks))
    ]


def _fits(network: nn.Module, example: Tensor) -> bool:
    """Whether the activations of the large batch fit into a CPU's memory, by the rule of the scoring process."""
    return example.device.type != "cpu" or LATENCY_BATCH * work.followed(network, example).largest * 4 <= MOST


def _summary(times: list[float]) -> Milliseconds:
    low, median, high = (float(value) for value in np.percentile(times, (25, 50, 75)))
    return Milliseconds(median=median, low=low, high=high)
