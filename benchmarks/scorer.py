"""The fresh process that scores: it gets file names and a task, decodes, evaluates and measures; it knows no method.

    python -m benchmarks.scorer TASK NETWORK DEVICE THREADS

reads one artefact path per line and answers each with one line of JSON, a `Measurement` or {"error": "…"}.
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

from benchmarks import bitstream, measure, tasks
from benchmarks.errors import BitstreamError, RateBenchError
from benchmarks.training.accuracy import correct_predictions, normalised

LATENCY_BATCH = 128


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one artefact by a process that has nothing else. Times in the units their names say."""

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
    latency_ms_batch128: float


def score(path: Path, task_name: str, network_name: str, device: torch.device) -> Measurement:
    """Decode the artefact and measure it on the task's test split; raises BitstreamError for a bad file."""
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
    total, nonzero = measure.elements(network)
    return Measurement(
        sha256=hashlib.sha256(data).hexdigest(),
        file_bytes=len(data),
        by_role=bitstream.bytes_by_role(data),
        correct=correct_predictions(network, split, task),
        total=len(split),
        elements=total,
        nonzero=nonzero,
        macs=measure.macs(network, example),
        decode_s=decode_s,
        latency_ms_batch1=measure.latency_ms(network, example, 1),
        latency_ms_batch128=measure.latency_ms(network, example, LATENCY_BATCH),
    )


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

    def score(self, path: Path) -> Measurement:
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
            self._process.stdin.write(f"{path}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            pass
        if not answer:
            msg = f"the process that decodes and scores {path} died: its own message is above"
            raise RateBenchError(msg)
        if "error" in (reply := msgspec.json.decode(answer)):
            raise BitstreamError(reply["error"])
        return msgspec.convert(reply, Measurement)


def main(task: str, network: str, device: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    for line in sys.stdin:
        try:
            reply = msgspec.json.encode(score(Path(line.rstrip("\n")), task, network, torch.device(device)))
        except RateBenchError as error:
            reply = msgspec.json.encode({"error": str(error)})
        print(reply.decode(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
