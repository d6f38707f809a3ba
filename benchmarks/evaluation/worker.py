"""The fresh process that scores: it gets file names and a task, and decodes, scores and measures.

    python -m benchmarks.evaluation.worker TASK NETWORK DEVICE THREADS

reads one line of JSON per artefact, a `Wanted`, and answers with one line, a `Measurement` or {"error": "…"}.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from benchmarks import bitstream, networks, tasks
from benchmarks.errors import BitstreamError, MethodError, RateBenchError, first_line
from benchmarks.evaluation import measure, memory, scoring, shards, work
from benchmarks.evaluation.messages import Measurement, Wanted
from benchmarks.evaluation.metrics import Sums
from benchmarks.evaluation.work import Work
from benchmarks.training.layout import channels_last

LATENCY_BATCH = 128
MOST = 2**30  # bytes of one activation on a CPU
MOST_SCORED = 2**31  # bytes of one activation of the items that are scored together; VGG-16 takes a tenth
MOST_WORK = 64  # times the multiply-accumulates of the reference network, and times the values that it reads and writes
ALONE = Work(macs=2**40, moved=2**36)  # of an item without a reference: about a minute


def score(wanted: Wanted, task: str, network_name: str, device: torch.device) -> Measurement:
    """Decode the artefact and measure it on the task's test items.

    Raises BitstreamError for a bad file, and for a network that can't be run on these items.
    """
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
    example = test.example.to(device)
    with _running(f"the network in {path} can't be run on the items of {task}"):
        channels_last(network.to(device))
        found = _work(network, example, task, network_name)
        values, nonzero = measure.elements(network)
        sha256 = hashlib.sha256(data).hexdigest()
        notes = None if wanted.notes is None else Path(wanted.notes)
        scores = shards.scored(network, test, wanted.first, wanted.of, notes, sha256)
        _check_kinds(task, scores)
        fits = device.type != "cpu" or LATENCY_BATCH * found.largest * 4 <= MOST
        return Measurement(
            sha256=sha256,
            file_bytes=len(data),
            by_role=bitstream.bytes_by_role(data),
            scores=scores,
            elements=values,
            nonzero=nonzero,
            macs=found.macs,
            decode_s=decode_s,
            latency_ms_batch1=measure.latency_ms(network, example, 1),
            latency_ms_batch128=measure.latency_ms(network, example, LATENCY_BATCH) if fits else None,
        )


@contextlib.contextmanager
def _running(what: str) -> Iterator[None]:
    """Any other exception than ours becomes a BitstreamError: PyTorch and a file's modules may raise anything."""
    try:
        yield
    except RateBenchError:
        raise
    except Exception as error:
        why = "memory is insufficient" if isinstance(error, MemoryError) else first_line(error)
        msg = f"{what}: {why}"
        raise BitstreamError(msg) from error


class _Excessive(ValueError):
    """A network takes more than scoring allows."""


def _work(network: nn.Module, example: Tensor, task: str, name: str) -> Work:
    """What a network takes for one item, planned; raises ValueError for far more memory or work than the task's own.

    A network that looks at its values can't be planned: each operation is checked before it is computed for one item.
    """
    usual = _usual(task, name)
    most = ALONE if usual is None else Work(0, MOST_WORK * usual.macs, MOST_WORK * usual.moved)
    why = "all that scoring allows" if usual is None else f"{MOST_WORK} times those of the reference"
    few = scoring.at_a_time(example.shape[1:], example.device)

    def check(found: Work) -> None:
        size = 4 * found.largest * few
        if example.device.type == "cpu" and size > MOST_SCORED:
            msg = f"an activation takes {size:,} bytes, more than the {MOST_SCORED:,} that scoring allows"
            raise _Excessive(msg)
        if found.macs > most.macs:
            msg = f"an item takes more than {most.macs:,} multiply-accumulates, {why}"
            raise _Excessive(msg)
        if found.moved > most.moved:
            msg = f"an item reads and writes more than {most.moved:,} values, {why}"
            raise _Excessive(msg)

    try:
        return work.planned(network, example, check)
    except _Excessive:
        raise
    except Exception:  # a module that looks at values, or a network that can't be run at all
        return work.followed(network, example, check)


@functools.cache
def _usual(task: str, name: str) -> Work | None:
    """What the task's reference takes for one item; None if this can't be counted without running it."""
    try:
        reference = tasks.load(task, name)
        with torch.device("meta"):
            network = networks.build(reference.architecture, reference.arguments).eval()
        return work.planned(network, tasks.get(task).test(name).example)
    except Exception:  # a task without a reference network, or one whose modules look at values
        return None


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
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    for line in sys.stdin:
        try:
            wanted = msgspec.json.decode(line, type=Wanted)
            with _running(f"{wanted.artefact} can't be scored on {task}"):
                reply = msgspec.json.encode(score(wanted, task, network, torch.device(device)))
        except RateBenchError as error:
            reply = msgspec.json.encode({"error": str(error)})
        try:
            print(reply.decode(), file=answers, flush=True)
        except BrokenPipeError:  # whoever asked was stopped
            os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
