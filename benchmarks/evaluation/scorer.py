"""The client of the fresh process that scores."""

from __future__ import annotations

import os
import subprocess
import sys
from types import TracebackType
from typing import Self

import msgspec
import torch

from benchmarks.errors import BitstreamError, RateBenchError
from benchmarks.evaluation.messages import Measurement, Wanted


class Scorer:
    """Starts the process on first use and keeps it for all artefacts of a cell."""

    def __init__(self, task: str, network: str, device: torch.device) -> None:
        self._command = [sys.executable, "-m", "benchmarks.evaluation.worker", task, network, str(device)]
        self._command.append(str(torch.get_num_threads()))
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the process, if it was started."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def score(self, wanted: Wanted) -> Measurement:
        """Measure one artefact; raises BitstreamError with the process's message if it can't be decoded or run."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",  # whatever the terminal has
                env=os.environ | {"PYTHONIOENCODING": "utf-8"},
                process_group=0,  # the suite handles ctrl-C: this process ends with its pipe
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
            msg = f"the process that decodes and scores {wanted.artefact} ended unexpectedly: see its message above"
            raise RateBenchError(msg)
        if "error" in (reply := msgspec.json.decode(answer)):
            raise BitstreamError(reply["error"])
        return msgspec.convert(reply, Measurement)
