"""The fresh process that scores: it gets file names and a task, decodes, evaluates and measures; it knows no method.

    python -m benchmarks.scorer TASK NETWORK DEVICE THREADS

reads one line of JSON per artefact, a `Wanted`, and answers with one, a `Measurement` or {"error": "…"}. Images are counted
in shards: what is counted is noted, so that a process that was killed does not count it again.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import torch
from torch import nn

from benchmarks import bitstream, measure, memory, storage, tasks
from benchmarks.errors import BitstreamError, RateBenchError
from benchmarks.training.accuracy import BATCHES, correct_predictions, normalised
from methods.interface import Split, Task

LATENCY_BATCH = 128
SHARD = 4  # batches
MOST = 2**30  # bytes of one activation on a CPU


class Wanted(msgspec.Struct, frozen=True):
    """An artefact, which of the test set's shards to count (every `of`-th from the `first`), and where to note counts."""

    artefact: str
    notes: str | None = None
    first: int = 0
    of: int = 1


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one artefact by a process that has nothing else. Times in the units their names say.

    `correct` of `total` are those of the shards that were wanted.
    """

    sha256: str
    file_bytes: int
    by_role: dict[str, int]
    correct: int
    total: int
    elements: int
    nonzero: int
    macs: int
    decode_s: float
    latency_ms_batch1: float
    latency_ms_batch128: float | None


def score(wanted: Wanted, task_name: str, network_name: str, device: torch.device) -> Measurement:
    """Decode the artefact and measure it on the task's test split; raises BitstreamError for a bad file."""
    path = Path(wanted.artefact)
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"can't read {path}: {error.strerror or error}"
        raise BitstreamError(msg) from error
    start = time.perf_counter()
    network = bitstream.decode(data)
    decode_s = time.perf_counter() - start
    task = tasks.load(task_name, network_name)
    split = tasks.get(task_name).test_split()
    network = network.to(device, memory_format=torch.channels_last)
    example = normalised(split.images[:1].to(device), task)
    values, nonzero = measure.elements(network)
    sha256 = hashlib.sha256(data).hexdigest()
    correct, total = _counted(network, split, task, wanted, sha256)
    fits = device.type != "cpu" or LATENCY_BATCH * measure.largest_activation(network, example) * 4 <= MOST
    return Measurement(
        sha256=sha256,
        file_bytes=len(data),
        by_role=bitstream.bytes_by_role(data),
        correct=correct,
        total=total,
        elements=values,
        nonzero=nonzero,
        macs=measure.macs(network, example),
        decode_s=decode_s,
        latency_ms_batch1=measure.latency_ms(network, example, 1),
        latency_ms_batch128=measure.latency_ms(network, example, LATENCY_BATCH) if fits else None,
    )


def _counted(network: nn.Module, split: Split, task: Task, wanted: Wanted, sha256: str) -> tuple[int, int]:
    """(correct, all) images of the shards that are wanted."""
    size = SHARD * BATCHES[next(network.parameters()).device.type]
    shards = [range(start, min(start + size, len(split))) for start in range(0, len(split), size)]
    correct = total = 0
    for shard in shards[wanted.first :: wanted.of]:
        note = None if wanted.notes is None else Path(wanted.notes) / f"{sha256[:16]}-{shard.start}-{shard.stop}"
        if note is not None and note.exists():
            found = int(note.read_text(encoding="ascii"))
        else:
            found = correct_predictions(network, split, task, shard)
            if note is not None:
                storage.write(note, str(found).encode())
        correct, total = correct + found, total + len(shard)
    return correct, total


class Scorer:
    """The harness's end of the pipe: starts the process on first use and keeps it for the artefacts of one cell."""

    def __init__(self, task: str, network: str, device: torch.device) -> None:
        self._command = [sys.executable, "-m", "benchmarks.scorer", task, network, str(device)]
        self._command.append(str(torch.get_num_threads()))
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def score(self, wanted: Wanted) -> Measurement:
        """Measure one artefact; raises BitstreamError with the process's own sentence if it can't be decoded."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                process_group=0,  # ctrl-C is the harness's to handle: this process ends with its pipe
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        answer = ""
        try:
            self._process.stdin.write(f"{msgspec.json.encode(wanted).decode()}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            pass
        if not answer:
            msg = f"the process that decodes and scores {wanted.artefact} died: its own message is above"
            raise RateBenchError(msg)
        if "error" in (reply := msgspec.json.decode(answer)):
            raise BitstreamError(reply["error"])
        return msgspec.convert(reply, Measurement)


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
