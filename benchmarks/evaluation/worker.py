"""The fresh process that scores: it gets file names and a task, and decodes, scores and measures.

    python -m benchmarks.evaluation.worker TASK NETWORK DEVICE THREADS

reads one line of JSON per artefact, a `Wanted`, and answers with one line, a `Measurement` or {"error": "…"}.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch

from benchmarks import bitstream, tasks
from benchmarks.errors import BitstreamError, MethodError, RateBenchError
from benchmarks.evaluation import measure, memory, shards
from benchmarks.evaluation.messages import Measurement, Wanted
from benchmarks.evaluation.metrics import Sums
from benchmarks.training.layout import channels_last

LATENCY_BATCH = 128
MOST = 2**30  # bytes of one activation on a CPU


def score(wanted: Wanted, task: str, network_name: str, device: torch.device) -> Measurement:
    """Decode the artefact and measure it on the task's test items; raises BitstreamError for a bad file."""
    path = Path(wanted.artefact)
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"can't read {path}: {error.strerror or error}"
        raise BitstreamError(msg) from error
    start = time.perf_counter()
    network = bitstream.decode(data)
    decode_s = time.perf_counter() - start
    test = tasks.get(task).test(network_name)
    channels_last(network.to(device))
    example = test.example.to(device)
    values, nonzero = measure.elements(network)
    sha256 = hashlib.sha256(data).hexdigest()
    notes = None if wanted.notes is None else Path(wanted.notes)
    scores = shards.scored(network, test, wanted.first, wanted.of, notes, sha256)
    _check_kinds(task, scores)
    fits = device.type != "cpu" or LATENCY_BATCH * measure.largest_activation(network, example) * 4 <= MOST
    return Measurement(
        sha256=sha256,
        file_bytes=len(data),
        by_role=bitstream.bytes_by_role(data),
        scores=scores,
        elements=values,
        nonzero=nonzero,
        macs=measure.macs(network, example),
        decode_s=decode_s,
        latency_ms_batch1=measure.latency_ms(network, example, 1),
        latency_ms_batch128=measure.latency_ms(network, example, LATENCY_BATCH) if fits else None,
    )


def _check_kinds(task: str, scores: Mapping[str, Sums]) -> None:
    """Raises MethodError unless the scores are those of the task's metrics; a process without a shard has none."""
    expected = {metric.name: metric.kind for metric in tasks.get(task).METRICS}
    found = {name: "proportion" if isinstance(own.total, int) else "mean" for name, own in scores.items()}
    if scores and found != expected:
        msg = f"the metrics of {task} are {expected}, but its test gives {found}: booleans for a proportion, else real values"
        raise MethodError(msg)


def main(task: str, network: str, device: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    memory.keep()
    for line in sys.stdin:
        try:
            wanted = msgspec.json.decode(line, type=Wanted)
            reply = msgspec.json.encode(score(wanted, task, network, torch.device(device)))
        except RateBenchError as error:
            reply = msgspec.json.encode({"error": str(error)})
        print(reply.decode(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
