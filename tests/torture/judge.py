"""The client of a decoder in a process of its own: what comes of a file, whatever it does to that process."""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from places import TESTS, python_path

HERE = Path(__file__).resolve().parent
DECODER = "benchmarks.bitstream:decode"
GROWTH = 4 * 2**30  # bytes of address space that a file may take before it is stopped
HANG = 120.0  # seconds without an answer; a new process first imports what it needs


class Judge:
    """A long-lived process; after a crash or a hang, a new one takes the next file."""

    def __init__(self, decoder: str = DECODER, growth: int = GROWTH, hang: float = HANG) -> None:
        self._command = [sys.executable, str(HERE / "child.py"), decoder, str(growth)]
        self._hang = hang
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def judge(self, data: bytes) -> dict[str, Any]:
        """{"outcome", "memory", "seconds"}; the last two are missing after a crash or a hang."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": python_path(TESTS.parent, TESTS), "OMP_NUM_THREADS": "1"},
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(struct.pack("<Q", len(data)) + data)
            self._process.stdin.flush()
            ready, _, _ = select.select([self._process.stdout], [], [], self._hang)
            line = self._process.stdout.readline() if ready else b""
        except BrokenPipeError:
            ready, line = [True], b""
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        ended = "hang" if not ready else f"crash: status {self._process.wait()}"
        self._end()
        return {"outcome": ended}

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
